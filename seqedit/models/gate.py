"""Whether what transformers loaded is the checkpoint's model, whole, and one that can be edited.

transformers fills what a checkpoint lacks with random weights, drops what it has no place for, and runs a model that
attends to later tokens as if it were a causal one; it says so in a report that is easily overlooked. Here each is an
error that names the weights, or, where the model is usable, one notice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.errors import ModelError
from seqedit.models.checkpoint import named
from seqedit.support.memory import is_out_of_memory

_LOG = logging.getLogger(__name__)

_CHUNK = 1 << 24
"""Elements that are looked at together, so that no mask of a whole embedding is made."""
_TOKENS = 4
"""Length of the prompts that a model is tried with."""


def check_loaded(model: Any, tokenizer: Any, report: Mapping[str, Iterable[Any]], source: str) -> None:
    """Refuse a loaded model that is not its checkpoint's, or no causal language model.

    Args:
        model: As transformers loaded it.
        tokenizer: Its tokenizer.
        report: transformers' ``output_loading_info``.
        source: What the messages call it.

    Raises:
        ModelError: weights are missing, of another shape, of no use to this class or not finite; the tokenizer has
            tokens that the embedding has not; or a later token changes what is predicted from earlier ones.
    """
    check_usable(model, tokenizer, source)
    _check_shapes(report.get("mismatched_keys", ()), source)
    unused = set(report.get("unexpected_keys", ()))
    _check_foreign(model, unused, source)
    missing = set(report.get("missing_keys", ()))
    buffers = {name for name, _ in model.named_buffers()}
    if not missing - buffers:
        _check_finite(model, source)
    logits = _trial(model, tokenizer, source)
    _check_causal(model, logits, source)  # before the head that an encoder lacks
    _check_missing(model, missing - buffers, source)
    if bool(logits.isnan().any()):
        raise ModelError(f"{source} computes NaN in {model.dtype}; give another --dtype, as float32 or bfloat16")
    for error in report.get("error_msgs", ()):
        raise ModelError(f"{source} cannot be loaded: {' '.join(str(error).split())}")
    if unused:
        _LOG.warning("%s: %s has no place for %s, which are not used", source, type(model).__name__, named(unused))
    if missing & buffers:
        _LOG.warning("%s: the checkpoint lacks %s, which are as at first", source, named(missing & buffers))


def check_usable(model: Any, tokenizer: Any, source: str) -> None:
    """Refuse a model in memory, from wherever it came, that is quantised or does not fit its tokenizer.

    Raises:
        ModelError: says which.
    """
    method = getattr(model, "quantization_method", None)
    if getattr(model, "is_quantized", False) or method is not None:
        how = getattr(method, "value", method) or "by transformers"
        raise ModelError(f"{source} is quantised ({how}); editing needs plain weights: load it without quantisation")
    embedding = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    rows = getattr(getattr(embedding, "weight", None), "shape", (0,))[0]
    if rows and hasattr(tokenizer, "get_vocab"):
        _check_vocabulary(tokenizer, int(rows), source)


def check_saved_as(architectures: Any, source: str) -> None:
    """Refuse a checkpoint of a class that writes no text, by the ``architectures`` of its configuration.

    A base model without a head (as ``LlamaModel``) is let through: where the head is tied it is whole.

    Raises:
        ModelError: names the class.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    bases = {n for value in MODEL_MAPPING_NAMES.values() for n in ([value] if isinstance(value, str) else value)}
    classes: dict[str, Any] = {str(n): getattr(transformers, str(n), None) for n in architectures or ()}
    known = {name: found for name, found in classes.items() if hasattr(found, "can_generate")}
    if known and not any(name in bases or found.can_generate() for name, found in known.items()):
        raise ModelError(
            f"{source} was saved as {next(iter(known))}, which is no causal language model: it does not predict the "
            "next token; give a checkpoint with a language model head"
        )


def _check_vocabulary(tokenizer: Any, rows: int, source: str) -> None:
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return
    added = getattr(tokenizer, "added_tokens_decoder", {})
    used = [token for token in getattr(tokenizer, "special_tokens_map", {}).values() if isinstance(token, str)]
    ordinary = [t for t, number in beyond.items() if t in used or not getattr(added.get(number), "special", False)]
    if ordinary:
        raise ModelError(
            f"{source}: its tokenizer has {max(beyond.values()) + 1} tokens and its embedding {rows} rows, none for "
            f"{named(map(repr, ordinary))}; the tokenizer is another model's, or was extended without the model"
        )
    _LOG.info("%s: texts with %s cannot be read, the model has no embedding for it", source, named(beyond))


def _check_shapes(mismatched: Iterable[Any], source: str) -> None:
    found = {str(name): (tuple(there), tuple(wanted)) for name, there, wanted in mismatched}
    if found:
        first = min(found)
        there, wanted = found[first]
        others = f", and {len(found) - 1} more weights do not fit" if len(found) > 1 else ""
        raise ModelError(
            f"{source}: {first} is {there} in the checkpoint and {wanted} by its config.json{others}; give the "
            "configuration that the weights were saved with"
        )


def _check_foreign(model: Any, unused: set[str], source: str) -> None:
    """Refuse weights without which the model computes something else than its checkpoint."""
    adapters = {n for n in unused if any(p.startswith("lora_") or p == "base_layer" for p in n.split("."))}
    if adapters:
        raise ModelError(
            f"{source} holds an adapter's weights among its own ({named(adapters)}); merge the adapter "
            "(`merge_and_unload`) and save the result as a model"
        )
    modules = dict(model.named_modules())
    more, ignored = set(), set()
    for name in unused:
        parent, ancestor = name.rpartition(".")[0], name
        while ancestor and ancestor not in modules:
            ancestor = ancestor.rpartition(".")[0]
        within, rest = modules.get(ancestor), name.removeprefix(f"{ancestor}.")
        if isinstance(within, nn.ModuleList):
            if not _predicts_further(model, rest, within):
                more.add(name)
        elif ancestor == parent:
            if ancestor and next(iter(within.parameters(recurse=False)), None) is not None:  # type: ignore[union-attr]
                ignored.add(name)  # a bias, a scale
        elif name.endswith((".weight", ".bias")) and any(
            isinstance(modules.get(above), nn.ModuleList) for above in _above(ancestor)
        ):
            ignored.add(name)  # a whole module within a layer
    if more:
        raise ModelError(
            f"{source}: the checkpoint has more layers than its config.json says ({named(more)}); give the "
            "configuration that the weights were saved with"
        )
    if ignored:
        raise ModelError(
            f"{source}: {type(model).__name__} by its config.json would leave out {named(ignored)}, so it would not "
            "compute what the checkpoint does; give the configuration that the weights were saved with"
        )


def _predicts_further(model: Any, rest: str, layers: nn.ModuleList) -> bool:
    """Whether this is a layer behind the last, for the token after the next one, which plain decoding leaves out."""
    number = rest.partition(".")[0]
    further = getattr(model.config, "num_nextn_predict_layers", None) or 0
    return number.isdigit() and len(layers) <= int(number) < len(layers) + int(further)


def _above(name: str) -> Iterable[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _check_missing(model: Any, missing: set[str], source: str) -> None:
    if missing:
        raise ModelError(
            f"{source}: no weights for {named(missing)}; the checkpoint does not fit its config.json, and "
            f"{type(model).__name__} would have random ones there"
        )


def _check_finite(model: Any, source: str) -> None:
    broken = [name for name, weight in model.named_parameters() if not weight.is_meta and not _finite(weight)]
    if broken:
        raise ModelError(
            f"{source}: NaN or infinity in {named(broken)}; the checkpoint is damaged, or {model.dtype} is too narrow "
            "for it"
        )


def _finite(weight: Tensor) -> bool:
    pieces = weight.detach().reshape(-1).split(_CHUNK)
    return all(bool(torch.isfinite(p if p.element_size() > 1 else p.float()).all()) for p in pieces)


def _trial(model: Any, tokenizer: Any, source: str) -> Tensor:
    """Logits (2, n, vocabulary) of two prompts that differ in the last token."""
    ids = _ordinary_ids(model, tokenizer)
    if len(ids) <= _TOKENS:
        raise ModelError(f"{source}: its tokenizer knows only {len(ids)} tokens beside the special ones")
    prompts = torch.tensor([[*ids[: _TOKENS - 1], last] for last in ids[_TOKENS - 1 : _TOKENS + 1]])
    device = model.get_input_embeddings().weight.device
    try:
        with torch.no_grad():
            logits: Tensor = model(input_ids=prompts if device.type == "meta" else prompts.to(device)).logits
    except Exception as error:  # whatever a model may raise
        if is_out_of_memory(error):
            raise
        said = str(error).strip().splitlines() or [""]
        raise ModelError(
            f"{source}: a forward pass over {_TOKENS} tokens fails ({type(error).__name__}: {said[0]})"
        ) from error
    return logits.float()


def _check_causal(model: Any, logits: Tensor, source: str) -> None:
    """Two prompts that differ in the last token must have the same logits at all earlier ones."""
    changed = (logits[0] - logits[1]).abs().amax(dim=-1)
    # Rounding may differ where tokens are sorted to experts; attention to a later token changes more than that.
    if changed[:-1].max() > max(1e-4, 4 * torch.finfo(model.dtype).eps) * changed[-1]:  # of NaN this is never so
        raise ModelError(
            f"{source} ({type(model).__name__}) attends to later tokens: it is an encoder and no causal language "
            "model, or its config.json lacks what makes it one (is_decoder)"
        )


def _ordinary_ids(model: Any, tokenizer: Any) -> list[int]:
    """A few tokens from the middle of the vocabulary, where no special ones are."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    special = set(getattr(tokenizer, "all_special_ids", ()))
    known = sorted(n for n in tokenizer.get_vocab().values() if n < rows and n not in special)
    middle = len(known) // 2
    return (known[middle:] + known[:middle])[: _TOKENS + 1]
