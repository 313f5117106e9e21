"""What was written, read back by the stock libraries and compared with the state before it counts as exported.

One short prompt, about a fact of the state, so that a lost edit shows. The largest difference of its logits may be the
rounding of the weights' type; an export that differs by more is an error, and nothing of it is kept.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqedit.adapters.adapter import Adapter
from seqedit.errors import CheckFailed, InputError, SeqeditError
from seqedit.facts.requests import Request
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model, told
from seqedit.models.quiet import quiet_transformers
from seqedit.support.memory import free_bytes

_LOG = logging.getLogger(__name__)

_PROMPT = "The capital of France is"
"""For a state without facts."""
_TOKENS = 32
"""Of a prompt, from its end, are enough."""


def tolerance(dtype: torch.dtype) -> float:
    """How far logits may differ, relative to the largest: 1e-4, or eight units in the last place of a narrower type.

    A delta added to the output is rounded elsewhere than one added to the weights (PEFT's way and composing), and
    another device sums in another order.
    """
    return max(1e-4, 8 * torch.finfo(dtype).eps)


def check_adapter_file(directory: Path, adapter: Adapter) -> None:
    """Refuse an adapter directory that does not read back as the adapter that was written.

    Raises:
        CheckFailed: it differs, or cannot be read.
    """
    try:
        found = Adapter.from_pretrained(directory)
    except SeqeditError as error:
        raise CheckFailed(f"the adapter that was written cannot be read back: {error}") from error
    if found.digest != adapter.digest:
        raise CheckFailed("the adapter that was written reads back as another one; is the disk sound?")


def check_adapter(
    directory: Path, adapter: Adapter, edited: EditedModel, requests: Sequence[Request] | None = None
) -> float:
    """Refuse an adapter directory that stock PEFT does not make the same model of as composing does.

    Args:
        directory: As it was written.
        adapter: What was written.
        edited: The loaded base model; left unedited.
        requests: Facts of the state; by default the adapter's own, which a camouflaged one does not say.

    Returns:
        The largest difference of the logits, relative to the largest logit.

    Raises:
        InputError: the model is wrapped by PEFT already.
        CheckFailed: PEFT refuses it, or the logits differ by more than `tolerance`.
    """
    if hasattr(edited.model, "get_base_model"):
        raise InputError("the model carries an adapter of PEFT's already; give the plain base model")
    ids = prompt_ids(edited, adapter.requests if requests is None else requests)
    edited.apply([adapter])
    wanted = logits(edited.model, ids)
    edited.write({})
    try:
        with told(str(directory), "stock PEFT does not load it"), _through_peft(edited.model, directory) as wrapped:
            found = logits(wrapped, ids)
    except SeqeditError as error:
        said = str(error).replace(f"{directory}: ", "")
        raise CheckFailed(f"the adapter that was written does not serve: {said}") from error
    return _compare("the adapter, loaded by stock PEFT,", found, wanted, edited)


@contextmanager
def _through_peft(model: Any, directory: Path) -> Iterator[Any]:
    """The model with an adapter, as stock PEFT loads it; in the end it is what it was before."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    trained = {name: weight.requires_grad for name, weight in model.named_parameters()}
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PEFT's own use of transformers
        try:
            yield PeftModel.from_pretrained(model, str(directory))
        finally:  # not PEFT's `unload`, which there is none of where it failed half-way
            for name, module in list(model.named_modules()):
                if isinstance(module, BaseTunerLayer):
                    parent, _, last = name.rpartition(".")
                    setattr(model.get_submodule(parent), last, module.get_base_layer())
            # What PEFT leaves would make transformers save an adapter in the place of the model.
            for name in ("peft_config", "_hf_peft_config_loaded"):
                model.__dict__.pop(name, None)
            for name, weight in model.named_parameters():
                weight.requires_grad_(trained[name])


def check_merged(directory: Path, edited: EditedModel, requests: Sequence[Request]) -> float | None:
    """Refuse a model directory that stock transformers does not read as the model that was written.

    Args:
        directory: As it was written.
        edited: The model in memory, in the state that was written.
        requests: Facts of the state.

    Returns:
        The largest difference of the logits, relative to the largest logit; None where there is no memory for a
        second copy of the model, which a notice says.

    Raises:
        CheckFailed: it cannot be loaded, or the logits or the prompt's tokens differ.
    """
    ids = prompt_ids(edited, requests)
    size = sum(p.numel() * p.element_size() for p in edited.model.parameters())
    free = free_bytes("cpu")
    if free is not None and size > 0.9 * free:
        _LOG.warning(
            "the model was written but not loaded again to compare it: that needs %.1f GB of memory, and %.1f are free",
            size / 1e9, free / 1e9,
        )  # fmt: skip
        return None
    wanted = logits(edited.model, ids)
    try:
        model, tokenizer = load_model(str(directory), device="cpu")
    except SeqeditError as error:
        said = str(error).replace(str(directory), "it")
        raise CheckFailed(f"the model that was written cannot be loaded again: {said}") from error
    found = logits(model, ids)
    text = edited.tokenizer.decode(ids[0].tolist())
    again, same = (t(text, add_special_tokens=False)["input_ids"] for t in (tokenizer, edited.tokenizer))
    del model
    gc.collect()
    if list(again) != list(same):
        raise CheckFailed("the tokenizer that was written splits a prompt into other tokens than the model's own")
    return _compare("the model that was written, loaded again,", found, wanted, edited)


def prompt_ids(edited: EditedModel, requests: Sequence[Request]) -> Tensor:
    """Token ids (1, n) of a prompt about the newest fact."""
    text = requests[-1].text if requests else _PROMPT
    ids = list(edited.tokenizer(text)["input_ids"])[-_TOKENS:]
    return torch.tensor([ids])


def logits(model: Any, ids: Tensor) -> Tensor:
    """(n, vocabulary) logits of a prompt, in float32 on the CPU."""
    device = model.get_input_embeddings().weight.device
    with torch.no_grad():
        found: Tensor = model(input_ids=ids if device.type == "meta" else ids.to(device)).logits
    return found[0].float().cpu()


def _compare(what: str, found: Tensor, wanted: Tensor, edited: EditedModel) -> float:
    dtype = edited.parts.projections[0].weight.dtype
    difference = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
    if not difference <= tolerance(dtype):
        raise CheckFailed(
            f"{what} gives other logits than the state: they differ by {difference:.1e} of the largest, where rounding "
            f"in {str(dtype).removeprefix('torch.')} makes up to {tolerance(dtype):.1e}; nothing was kept"
        )
    _LOG.info("%s gives the logits of the state, to %.1e of the largest", what, difference)
    return difference
