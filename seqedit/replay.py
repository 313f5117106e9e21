"""Re-running only the layers above one layer, from a cached hidden state.

The model's own ``forward`` is called, with the layers up to the cut replaced for the time of the call: the first
ones pass their input on, the last of them returns the given hidden state. Masks, position embeddings, logit
soft-capping and whatever else a family does around its layers therefore stay the model's own business. The LM
head sees only the positions that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.anatomy import Anatomy
from seqedit.tracing import StopForward, hidden_of, hooks


@dataclass(frozen=True, eq=False)
class Cut:
    """A batch run up to and including one layer.

    Attributes:
        input_ids: (rows, t).
        attention_mask: (rows, t).
        layer: Index L of the last layer that was run, -1 for none.
        hidden: (rows, t, d) output of layer L.
        rest: What layer L returned besides the hidden state, or None if it returned a bare tensor.
    """

    input_ids: Tensor
    attention_mask: Tensor
    layer: int
    hidden: Tensor
    rest: tuple[Any, ...] | None


def run_to_layer(model: Any, parts: Anatomy, layer: int, input_ids: Tensor, attention_mask: Tensor) -> Cut:
    """Run a batch through the embedding and the layers 0 to ``layer``, and stop.

    With ``layer`` -1 nothing is run: replaying such a cut runs the whole model.
    """
    if layer < 0:
        return Cut(input_ids, attention_mask, layer, torch.zeros(input_ids.shape[0], 0, 0), None)
    captured: list[Any] = []

    def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        captured.append(output)
        raise StopForward

    with torch.no_grad(), hooks(post={parts.layers[layer]: capture}), suppress(StopForward):
        model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    output = captured[0]
    rest = tuple(output[1:]) if isinstance(output, tuple) else None
    return Cut(input_ids, attention_mask, layer, hidden_of(output).detach(), rest)


def logits_above(model: Any, parts: Anatomy, cut: Cut, hidden: Tensor, positions: Tensor) -> Tensor:
    """Logits at some positions after running only the layers above the cut.

    Args:
        model: The causal LM.
        parts: Its anatomy.
        cut: The batch, run up to layer L.
        hidden: (rows, t, d) hidden state to use as output of layer L; gradients flow to it.
        positions: (rows, m) token positions whose logits are wanted.

    Returns:
        (rows, m, vocabulary) logits.
    """
    rows = torch.arange(hidden.shape[0], device=positions.device).unsqueeze(1)

    def select(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        states = args[0]
        return (states[rows.to(states.device), positions.to(states.device)], *args[1:])

    with _replaced(parts.layers[: cut.layer + 1], hidden, cut.rest), hooks(pre={parts.lm_head: select}):
        output = model(input_ids=cut.input_ids, attention_mask=cut.attention_mask, use_cache=False)
    logits: Tensor = output.logits
    return logits


@contextmanager
def _replaced(layers: Sequence[nn.Module], hidden: Tensor, rest: tuple[Any, ...] | None) -> Iterator[None]:
    """The layers' ``forward`` replaced: all but the last pass on, the last returns ``hidden``."""

    def pass_on(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return hidden_states if rest is None else (hidden_states, *rest)

    def give(*args: Any, **kwargs: Any) -> Any:
        return hidden if rest is None else (hidden, *rest)

    if not layers:
        yield
        return
    # In the instance dictionary, because accelerate puts its own forward there: what was there comes back.
    missing = object()
    before = [layer.__dict__.get("forward", missing) for layer in layers]
    for layer in layers[:-1]:
        layer.forward = pass_on  # type: ignore[method-assign]
    layers[-1].forward = give  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            if old is missing:
                del layer.__dict__["forward"]
            else:
                layer.forward = old  # type: ignore[method-assign,assignment]
