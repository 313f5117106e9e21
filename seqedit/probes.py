"""Finding out by a small trial whether a model can be run in another way, and how long its rows may then be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}
"""By how much logits may deviate, in their standard deviations; `_HALF` for half precision. Rounding stays far below
it, TF32 included; wrong positions or masks make deviations of the size of the logits."""
_HALF = 0.25
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")


def agrees(found: Tensor, plain: Tensor) -> bool:
    """Whether logits are those of the plain way to run a model, up to rounding."""
    expected = plain.double()
    deviation = (found.double() - expected).abs().max() / expected.std()
    return bool(deviation <= _TOLERANCE.get(plain.dtype, _HALF))


def fits_window(model: Any, tokens: int) -> bool:
    """Whether no attention window of the model cuts anything off a row of so many tokens.

    Windows are counted in columns of a row, so gaps in it count.
    """
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    limits = [getattr(config, name, None) for name in _WINDOWS]
    return all(tokens <= limit for limit in limits if isinstance(limit, int) and limit > 0)
