"""Whether a decoder layer adds its feed-forward output to the residual stream as it is, found by trying."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.tracing import StopForward, hidden_of, hooks, inference_state, input_device

TOLERANCE = 0.1
"""Relative deviation that rounding explains in float16 and bfloat16; a norm or a scale makes far larger ones."""


def adds_output(model: Any, layer: nn.Module, module: nn.Module) -> bool:
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


def _layer_output(model: Any, layer: nn.Module, module: nn.Module, added: Tensor | None) -> Tensor:
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
