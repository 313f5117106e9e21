"""Finding out by a small trial whether a model can be run in another way, and how long its rows may then be."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from seqedit.memory import is_out_of_memory

_log = logging.getLogger(__name__)

UNSUPPORTED = (TypeError, ValueError, AttributeError, IndexError, NotImplementedError, RuntimeError)
"""What models raise that cannot be run in the way that is tried."""
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}
"""By how much logits may deviate, in their standard deviations; `_HALF` for half precision. Rounding stays far below
it, TF32 included; wrong positions or masks make deviations of the size of the logits."""
_HALF = 0.25
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")


def lost(way: str, model: Any, error: BaseException | None = None) -> bool:
    """Say that a model is run without a fast path; False, as the answer of the trial that found out.

    Args:
        way: What is lost, e.g. "prefixes that begin alike as one row".
        model: The model that was tried.
        error: What the trial raised; None where it ran and gave other numbers.

    Raises:
        BaseException: ``error`` itself where memory ran out, which says nothing about the model.
    """
    if error is not None and is_out_of_memory(error):
        raise error
    reason = "other logits than the plain way" if error is None else f"{type(error).__name__}: {error}"
    _log.warning("%s is run without %s, which is slower: %s", type(model).__name__, way, " ".join(reason.split()))
    return False


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
