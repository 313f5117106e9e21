"""Re-running only the layers above one layer, from a cached hidden state; and only the tokens from one on.

The model's own ``forward`` is called, with the layers up to the cut replaced for the time of the call: the first
ones pass their input on, the last of them returns the given hidden state. Masks, position embeddings, logit
soft-capping and whatever else a family does around its layers therefore stay the model's own business. The LM
head sees only the positions that are asked for. Tokens before the first that changes need not run again either: their
keys and values are fixed (`seqedit.forward.fixed_past`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.forward.access import input_device
from seqedit.forward.batching import pad_right
from seqedit.forward.configuration import ordinary_tokens
from seqedit.forward.fixed_past import Past, continued_mask, past_of
from seqedit.forward.hooks import hidden_of, hooks, inference_state, run_until
from seqedit.forward.protocols import CausalLM
from seqedit.forward.trials import trial
from seqedit.models.anatomy import Anatomy


@dataclass(frozen=True, eq=False)
class Cut:
    """A batch run up to and including one layer.

    Attributes:
        input_ids: (rows, t).
        attention_mask: (rows, t), (rows, P + t) with a past of P columns, or what is added to the attention scores.
        layer: Index L of the last layer that was run, -1 for none.
        hidden: (rows, t, d) output of layer L.
        rest: What layer L returned besides the hidden state, or None if it returned a bare tensor.
        past: Fixed keys and values of the tokens before the first column, None where the rows are whole.
        positions: (rows, t) positions of the tokens; None where they are the columns.
    """

    input_ids: Tensor
    attention_mask: Tensor
    layer: int
    hidden: Tensor
    rest: tuple[Any, ...] | None
    past: Past | None = None
    positions: Tensor | None = None

    def rows(self, index: Tensor) -> Cut:
        """Only some rows, (k,) indices."""

        def take(tensor: Tensor) -> Tensor:
            return tensor[index.to(tensor.device)]

        # Whatever else a layer returns (attention weights, say) is not per-row state that later layers read.
        return replace(
            self, input_ids=take(self.input_ids), attention_mask=take(self.attention_mask), hidden=take(self.hidden),
            past=None if self.past is None else self.past.rows(index),
            positions=None if self.positions is None else take(self.positions),
        )  # fmt: skip

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the model's forward."""
        more: dict[str, Any] = {"use_cache": False} if self.past is None else self.past.arguments()
        if self.positions is not None:
            more["position_ids"] = self.positions
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, **more}


def run_to_layer(parts: Anatomy, layer: int, input_ids: Tensor, attention_mask: Tensor) -> Cut:
    """Run a batch through the embedding and the layers 0 to ``layer``, and stop.

    With ``layer`` -1 nothing is run: replaying such a cut runs the whole model.
    """
    if layer < 0:
        return Cut(input_ids, attention_mask, layer, torch.zeros(input_ids.shape[0], 0, 0), None)
    return cut_at(parts, Cut(input_ids, attention_mask, -1, torch.zeros(len(input_ids), 0, 0), None), layer)


def run_from(parts: Anatomy, layer: int, sequences: Sequence[Sequence[int]], first: Sequence[int]) -> Cut:
    """As `run_to_layer`, but the cut holds each row from its own first token on only.

    Exact where nothing before these tokens is changed in a replay (`seqedit.forward.fixed_past.continues` tells for
    which models).

    Args:
        parts: Anatomy of the model.
        layer: Index L of the layer to cut after, -1 for none.
        sequences: Token ids of the rows.
        first: Where in each row its first token is; not 0 for all.
    """
    device = input_device(parts.model)
    begin = torch.tensor(first, device=device)
    ids, own = pad_right([row[start:] for row, start in zip(sequences, first, strict=True)], device)
    positions = begin.unsqueeze(1) + torch.arange(ids.shape[1], device=device) * own
    with torch.no_grad():
        prefixes = [tuple(row[:start]) for row, start in zip(sequences, first, strict=True)]
        past = past_of(parts.model, parts.layers[-1], prefixes, trees=parts.takes_trees)
        mask = continued_mask(own, begin, past.length)
        cut = Cut(ids, mask, -1, torch.zeros(len(ids), 0, 0), None, past, positions)
        return replace(cut_at(parts, cut, layer), past=past.above(layer)) if layer >= 0 else cut


def replays(parts: Anatomy) -> bool:
    """Whether a model gives the same logits when only its last layer is run, from a hidden state; found by trying.

    Not all do: upper layers may read what lower ones left beside the hidden state (keys and values that layers share,
    as in Gemma 4's smaller models).
    """
    model, layer = parts.model, len(parts.layers) - 2
    if layer < 0:
        return True
    ids = torch.tensor([ordinary_tokens(model, 4)], device=input_device(model))
    rows, columns = torch.zeros(4, dtype=torch.long), torch.arange(4)

    def attempt() -> tuple[Tensor, Tensor]:
        plain = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
        cut = run_to_layer(parts, layer, ids, torch.ones_like(ids))
        return logits_above(model, parts, cut, cut.hidden, rows, columns), plain

    with torch.no_grad(), inference_state(model):
        return trial(model, "running only the layers above an edited one", attempt)


def cut_at(parts: Anatomy, cut: Cut, layer: int) -> Cut:
    """The same rows, run on without gradients to a layer above the cut's."""
    captured: list[Any] = []

    def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        captured.append(output)

    with torch.no_grad(), lower_layers_replaced(parts, cut), hooks(post={parts.layers[layer]: capture}):
        run_until(parts.model, parts.layers[layer], **cut.arguments())
    rest = tuple(captured[0][1:]) if isinstance(captured[0], tuple) else None
    return replace(cut, layer=layer, hidden=hidden_of(captured[0]).detach(), rest=rest)


def logits_above(
    model: CausalLM, parts: Anatomy, cut: Cut, hidden: Tensor, rows: Tensor, columns: Tensor, *, prune: bool = False
) -> Tensor:
    """Logits at some positions after running only the layers above the cut.

    Args:
        model: The causal LM.
        parts: Its anatomy.
        cut: The batch, run up to layer L.
        hidden: (rows, t, d) hidden state to use as output of layer L; gradients flow to it.
        rows: (k,) rows of the positions whose logits are wanted, each position once.
        columns: (k,) their columns.
        prune: Run the last layer's feed-forward block at these positions only: nothing reads its output elsewhere.
            Not where somebody's hook on that block expects all tokens.

    Returns:
        (k, vocabulary) logits.
    """

    def select(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        states = args[0]
        return (states[rows.to(states.device), columns.to(states.device)].unsqueeze(0), *args[1:])

    with ExitStack() as stack:
        stack.enter_context(_replaced(parts.layers[: cut.layer + 1], hidden, cut.rest))
        stack.enter_context(hooks(pre={parts.lm_head: select}))
        if prune and parts.last_ffn is not None:
            stack.enter_context(_only_at(parts.last_ffn, rows, columns))
        output = model(**cut.arguments())
    logits: Tensor = output.logits[0]
    return logits


@contextmanager
def _only_at(block: nn.Module, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """A block that works token by token run at some positions; what it puts out elsewhere is 0."""
    whole: list[torch.Size] = []

    def gather(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A block that is given more than the hidden state (the residual, say) is left alone.
        if len(args) != 1 or kwargs or args[0].ndim != 3:
            return None
        whole.append(args[0].shape)
        return (args[0][rows.to(args[0].device), columns.to(args[0].device)].unsqueeze(0),), kwargs

    def scatter(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not whole:
            return None
        shape = whole.pop()
        states: Tensor = output[0]
        empty = states.new_zeros(*shape[:2], states.shape[-1])
        return empty.index_put((rows.to(states.device), columns.to(states.device)), states)

    handles = [block.register_forward_pre_hook(gather, with_kwargs=True), block.register_forward_hook(scatter)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def lower_layers_replaced(parts: Anatomy, cut: Cut) -> AbstractContextManager[None]:
    """For the time of a block, a forward pass over the cut's rows begins above the cut's layer."""
    return _replaced(parts.layers[: cut.layer + 1], cut.hidden, cut.rest)


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
