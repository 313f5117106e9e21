"""Finding out by a small trial whether a model can be run in another way, and how long its rows may then be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from seqedit.forward.configuration import attention_windows
from seqedit.forward.protocols import CausalLM
from seqedit.support.memory import is_out_of_memory

_LOG = logging.getLogger(__name__)
_TOLD: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""What was said of a model already: a trial may be made for every batch, but need not be told of every time."""

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}
"""By how much logits may deviate, in their standard deviations; `_HALF` for half precision. Rounding stays far below
it, TF32 included; wrong positions or masks make deviations of the size of the logits."""
_HALF = 0.25
_UNSUPPORTED = (TypeError, ValueError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError)
"""How models answer to arguments, masks, positions or caches that they have no place for."""
_DEVICE = ("cuda error", "cudnn error", "cublas", "hip error", "device-side assert", "mps backend", "internal assert")


def agrees(found: Tensor, plain: Tensor) -> bool:
    """Whether logits are those of the plain way to run a model, up to rounding."""
    expected = plain.double()
    deviation = (found.double() - expected).abs().max() / expected.std()
    return bool(deviation <= _TOLERANCE.get(plain.dtype, _HALF))


def fits_window(model: CausalLM, tokens: int) -> bool:
    """Whether no attention window of the model cuts anything off a row of so many tokens.

    Windows are counted in columns of a row, so gaps in it count.
    """
    return all(tokens <= limit for limit in attention_windows(model))


def trial(model: CausalLM, what: str, attempt: Callable[[], tuple[Tensor, Tensor]]) -> bool:
    """Whether another way to run a model works and gives the plain way's logits; where not, the log says so and why.

    Args:
        model: The model.
        what: The way, for the log.
        attempt: Runs the model both ways on a few tokens: (logits found, logits of the plain way).

    Raises:
        Exception: what says nothing about the model: memory ran out, the device failed, an interrupt.
    """
    try:
        found, plain = attempt()
    except _UNSUPPORTED as error:
        if not is_unsupported(error):
            raise
        lost(model, what, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return False
    if not agrees(found, plain):
        lost(model, what, "its logits are not those of the plain way")
        return False
    return True


def is_unsupported(error: BaseException) -> bool:
    """Whether an error of a trial means that the model cannot be run so, rather than that something broke."""
    if is_out_of_memory(error) or isinstance(error, getattr(torch, "AcceleratorError", ())):
        return False
    told = str(error).lower()
    return isinstance(error, _UNSUPPORTED) and not any(words in told for words in _DEVICE)


def lost(model: CausalLM, what: str, why: str) -> None:
    """Say, once for each model and reason, that a model is run the slow way."""
    said = _TOLD.setdefault(model, set())
    line = f"{type(model).__name__}: {what} is off, so it runs slower ({why})"
    if line not in said:
        said.add(line)
        _LOG.warning("%s", line)
