"""Finding out by a small trial whether a model can be run in another way, and how long its rows may then be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seqedit.forward.access import input_device
from seqedit.forward.hooks import StopForward, hidden_of, hooks, inference_state
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
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")


def agrees(found: Tensor, plain: Tensor) -> bool:
    """Whether logits are those of the plain way to run a model, up to rounding."""
    expected = plain.double()
    deviation = (found.double() - expected).abs().max() / expected.std()
    return bool(deviation <= _TOLERANCE.get(plain.dtype, _HALF))


def fits_window(model: CausalLM, tokens: int) -> bool:
    """Whether no attention window of the model cuts anything off a row of so many tokens.

    Windows are counted in columns of a row, so gaps in it count.
    """
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    limits = [getattr(config, name, None) for name in _WINDOWS]
    return all(tokens <= limit for limit in limits if isinstance(limit, int) and limit > 0)


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


TOLERANCE = 0.1
"""Relative deviation that rounding explains in float16 and bfloat16; a norm or a scale makes far larger ones."""


def adds_output(model: CausalLM, layer: nn.Module, module: nn.Module) -> bool:
    """Whether what is added to a module's output comes out of its layer unchanged.

    Most families add the FFN's output to the residual stream; some normalise it first (Gemma 2), scale it (Granite)
    or normalise the sum. The module tree does not tell them apart, one token through the layer does.

    Args:
        model: The causal LM.
        layer: A decoder layer.
        module: A linear module inside it, with one output per feature of the residual stream.
    """
    with torch.no_grad(), inference_state(model):
        before = _layer_output(model, layer, module, None)
        # Of the size of what is there, so that rounding neither hides it nor drowns in it; a ramp, so that no
        # feature's share is another's.
        shape = torch.linspace(0.5, 1.5, before.shape[-1], dtype=torch.float64, device=before.device)
        added = shape * (before.abs().mean() or 1.0)
        # Two sizes: a norm may by chance return one of them as it came, never both.
        return all(
            _deviation(_layer_output(model, layer, module, size * added) - before, size * added) < TOLERANCE
            for size in (1.0, 4.0)
        )


def _layer_output(model: CausalLM, layer: nn.Module, module: nn.Module, added: Tensor | None) -> Tensor:
    """(d,) float64 output of a layer for one token, with something added to a module's output inside it."""
    seen: list[Tensor] = []

    def add(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output if added is None else output + added.to(output)

    def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(hidden_of(output).detach()[0, 0].double())
        raise StopForward

    ids = torch.zeros(1, 1, dtype=torch.long, device=input_device(model))
    with hooks(post={module: add, layer: capture}), suppress(StopForward):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return seen[0]


def _deviation(found: Tensor, expected: Tensor) -> float:
    """Median over the features, because a few outlying activations round coarsely."""
    return float(((found - expected).abs() / expected.abs()).median())
