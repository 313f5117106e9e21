"""What a model's configuration says, read in one place.

A multimodal model keeps what belongs to its language part in a configuration of its own, and families name the same
figure differently. Nothing else reads a model's configuration for such figures (a test holds that), so that nobody
reads the wrong level and takes a missing figure for none. Where the loaded model itself tells, it is asked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from seqedit.forward.protocols import CausalLM

_POSITIONS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "max_seq_length", "n_ctx",
    "max_target_positions", "model_max_length",
)  # fmt: skip
"""How families name the most tokens of a sequence; a model that states none (ALiBi, a recurrent state) has no limit."""
_WINDOWS = ("sliding_window", "sliding_window_size", "attention_chunk_size", "window_size")
_FFN_WIDTHS = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner", "shared_intermediate_size", "d_ff")
TRIED = 4
"""Tokens that are run to see where positions are looked up."""
_RESERVED = ("token_id", "token_ids", "token_index", "token_indices")


def text_config(model: CausalLM) -> Any:
    """The configuration of a model's language part; of a model without other parts, its configuration."""
    config = model.config
    if not hasattr(config, "get_text_config"):
        return config
    try:
        return config.get_text_config(decoder=True)
    except (TypeError, ValueError):  # another library's configuration, or one of several text parts
        return config


def stated_position_limit(model: CausalLM) -> int | None:
    """Most tokens of a sequence by the configuration, None where it states none."""
    return next(iter(_sizes(text_config(model), _POSITIONS)), None)


def attention_windows(model: CausalLM) -> list[int]:
    """Lengths of the attention windows, in tokens, that the configuration states."""
    return list(_sizes(text_config(model), _WINDOWS))


def ffn_widths(model: CausalLM) -> list[int]:
    """Widths of feed-forward blocks that the configuration states; a family may have others besides."""
    return list(_sizes(text_config(model), _FFN_WIDTHS))


def residual_width(model: CausalLM) -> int | None:
    """Features of the residual stream; None where the configuration does not state them."""
    return next(iter(_sizes(text_config(model), ("hidden_size", "n_embd", "d_model"))), None)


def vocabulary_size(model: CausalLM) -> int:
    """How many logits a position has: rows of the output embedding, or what the configuration states; at least 1."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found = getattr(head, "out_features", None)
    weight = getattr(head, "weight", None)
    if not isinstance(found, int) and isinstance(weight, torch.Tensor) and weight.ndim == 2:
        found = int(weight.shape[0])
    if isinstance(found, int) and found > 0:
        return found
    return next(iter(_sizes(text_config(model), ("vocab_size",))), 1)


def ordinary_tokens(model: CausalLM, count: int) -> list[int]:
    """Token ids that stand for text: none that a configuration reserves (padding, begin, end, an image's place).

    They fall, so that nothing takes them for positions; where the vocabulary is too small they repeat.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    reserved = set(_reserved(getattr(model, "config", None)))
    free = [token for token in range(min(int(rows), len(reserved) + 2 * count)) if token not in reserved] or [0]
    chosen = [free[i % len(free)] for i in range(count)]
    return chosen[::-1]


def _sizes(config: Any, names: tuple[str, ...]) -> Iterator[int]:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            yield value


def _reserved(config: Any) -> Iterator[int]:
    """Every token id that a configuration names, its parts' too."""
    stated = config.to_dict() if hasattr(config, "to_dict") else config
    waiting = [stated] if isinstance(stated, Mapping) else []
    while waiting:
        for name, value in waiting.pop().items():
            if isinstance(value, Mapping):
                waiting.append(value)
            elif str(name).endswith(_RESERVED):
                yield from (v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int))


def position_tables(model: CausalLM, run: Any) -> list[int]:
    """How many positions each learned position table of a model has room for, found by looking at what is looked up.

    Args:
        model: The causal LM.
        run: Runs the model on the ids of `ordinary_tokens`, `TRIED` of them, without gradients.
    """
    tables: list[int] = []

    def looked_up(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        asked = args[0] if args else None
        if not isinstance(asked, torch.Tensor) or asked.numel() != TRIED or asked.is_floating_point():
            return
        first = int(asked.flatten()[0])
        if asked.flatten().tolist() == [first + i for i in range(TRIED)]:
            tables.append(int(module.weight.shape[0]) - first)  # type: ignore[union-attr,index]

    tokens = model.get_input_embeddings()
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not tokens]
    if not embeddings:
        return []
    handles = [module.register_forward_hook(looked_up) for module in embeddings]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return tables
