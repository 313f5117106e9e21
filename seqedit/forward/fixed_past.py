"""Fixed keys and values of earlier tokens, from which a model continues as if it had read them.

Attention is causal, so what is changed at one token never reaches the tokens before it: whatever is tried there, those
contribute the same keys and values. They are taken once from a plain forward pass; afterwards only the tokens from
each row's own first column on are run. Rows may begin at different columns: earlier tokens stand on the left, the gap
between them and a row's first token is masked, and positions are given explicitly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from seqedit.forward.access import input_device
from seqedit.forward.batching import pass_tokens, token_budget_batches
from seqedit.forward.hooks import inference_state, run_until
from seqedit.forward.prefix_trees import forward_arguments, pack, pack_width
from seqedit.forward.protocols import CausalLM
from seqedit.forward.trials import fits_window, lost, trial

CONTINUING = "going on from fixed keys and values of earlier tokens"


@dataclass(frozen=True, eq=False)
class Past:
    """What rows attend to besides their own tokens.

    Attributes:
        layers: For each layer its (rows, heads, P, head size) keys and values; None where they are not needed.
        length: How many columns P there are.
    """

    layers: tuple[tuple[Tensor, Tensor] | None, ...]
    length: int

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the model's forward; every call may be given the same tensors."""
        return {"past_key_values": _FixedCache(self), "use_cache": True}

    def rows(self, index: Tensor) -> Past:
        """Only some rows, (k,) indices."""

        def take(tensor: Tensor) -> Tensor:
            return tensor[index.to(tensor.device)]

        layers = tuple(None if pair is None else (take(pair[0]), take(pair[1])) for pair in self.layers)
        return Past(layers, self.length)

    def above(self, layer: int) -> Past:
        """Without the keys and values of the layers up to ``layer``, which will not be run."""
        return Past((*[None] * (layer + 1), *self.layers[layer + 1 :]), self.length)


class _FixedLayer(DynamicLayer):
    """One layer's keys and values; new ones are put behind them for one call and not kept."""

    def __init__(self, pair: tuple[Tensor, Tensor] | None, length: int) -> None:
        super().__init__()
        self.length = length
        if pair is not None:
            self.keys, self.values = pair
            self.dtype, self.device = pair[0].dtype, pair[0].device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)

    def get_seq_length(self, *args: Any) -> int:
        return self.length


class _FixedCache(DynamicCache):
    def __init__(self, past: Past) -> None:
        super().__init__()
        self.layers = [_FixedLayer(pair, past.length) for pair in past.layers]


def past_of(model: CausalLM, last: nn.Module, prefixes: Sequence[tuple[int, ...]], *, trees: bool) -> Past:
    """Keys and values of the tokens before each row's first, prefixes that begin alike being run once.

    Args:
        model: The causal LM.
        last: Its last decoder layer.
        prefixes: For each row the tokens before its first; not all of them empty.
        trees: Whether the model can run prefixes that begin alike as one row
        (`seqedit.forward.prefix_trees.takes_trees`).

    Returns:
        The past; in a row with a shorter prefix its last columns mean nothing and are to be masked.
    """
    device = input_device(model)
    distinct = sorted({prefix for prefix in prefixes if prefix})
    packed = pack(distinct, pack_width(model, distinct, trees=trees))
    number = {prefix: i for i, prefix in enumerate(distinct)}
    holders: list[list[int]] = [[] for _ in packed.rows]  # for each packed row the rows that need it
    for row, prefix in enumerate(prefixes):
        if prefix:
            holders[packed.row_of[number[prefix]]].append(row)
    length = max(map(len, distinct))
    dtype = model.get_input_embeddings().weight.dtype
    held: list[tuple[Tensor, Tensor]] = []
    sizes = [len(row.ids) for row in packed.rows]
    for batch in token_budget_batches(sizes, pass_tokens(device)):
        cache = DynamicCache()
        arguments = forward_arguments([packed.rows[i] for i in batch], device, dtype)
        run_until(model, last, **arguments, past_key_values=cache, use_cache=True)
        needed = [(row, place) for place, i in enumerate(batch) for row in holders[i]]
        into = torch.tensor([row for row, _ in needed])
        place = torch.tensor([place for _, place in needed])
        nodes = torch.zeros(len(needed), length, dtype=torch.long)
        for k, (row, _) in enumerate(needed):
            path = packed.nodes[number[prefixes[row]]]
            nodes[k, : len(path)] = torch.tensor(path)
        if not held:
            held = [
                tuple(t.new_zeros(len(prefixes), t.shape[1], length, t.shape[3]) for t in (layer.keys, layer.values))
                for layer in cache.layers
            ]  # type: ignore[misc]
        for pair, layer in zip(held, cache.layers, strict=True):
            for whole, found in zip(pair, (layer.keys, layer.values), strict=True):
                picked = found.transpose(1, 2)[place.unsqueeze(1).to(found.device), nodes.to(found.device)]
                whole[into.to(whole.device)] = picked.transpose(1, 2)
    return Past(tuple(held), length)


def continued_mask(own: Tensor, first: Tensor, length: int) -> Tensor:
    """(rows, P + S) attention mask of rows that continue: what is before each row's first column, then its own.

    Args:
        own: (rows, S) mask of the rows' own tokens.
        first: (rows,) how many tokens come before them.
        length: P, the greatest of these.
    """
    before = torch.arange(length, device=first.device) < first.unsqueeze(1)
    return torch.cat([before.to(own.dtype), own], dim=1)


def continues(model: CausalLM, last: nn.Module, *, trees: bool) -> bool:
    """Whether a model gives the same logits when it continues from fixed keys and values; found by trying.

    Not all do: a model may lack explicit positions, keep another kind of state, or build its masks otherwise.

    Args:
        model: The causal LM.
        last: Its last decoder layer.
        trees: Whether it can run prefixes that begin alike as one row.
    """
    device = input_device(model)
    random = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, vocabulary, (3, 6), generator=random).to(device)
    first = torch.tensor([1, 4, 2], device=device)
    if not fits_window(model, ids.shape[1]):
        lost(model, CONTINUING, "its attention window is too short")
        return False

    def attempt() -> tuple[Tensor, Tensor]:
        plain = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        prefixes = [tuple(row[:count].tolist()) for row, count in zip(ids, first, strict=True)]
        past = past_of(model, last, prefixes, trees=trees)
        positions = first.unsqueeze(1) + torch.arange(2, device=device)
        own = ids.gather(1, positions)
        mask = continued_mask(torch.ones_like(own), first, past.length)
        found = model(input_ids=own, attention_mask=mask, position_ids=positions, **past.arguments()).logits
        rows = torch.arange(3, device=plain.device).unsqueeze(1)
        return found, plain[rows, positions.to(plain.device)]

    with torch.no_grad(), inference_state(model):
        return trial(model, CONTINUING, attempt)
