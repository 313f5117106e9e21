"""Fixed keys and values of earlier tokens, from which a model continues as if it had read them.

Attention is causal, so what is changed at one token never reaches the tokens before it: whatever is tried there, those
contribute the same keys and values. They are taken once from a plain forward pass; afterwards only the tokens from
each row's own first column on are run. Rows may begin at different columns: earlier tokens stand on the left, the gap
between them and a row's first token is masked, and positions are given explicitly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from seqedit.probes import agrees, fits_window
from seqedit.tracing import inference_state, input_device


@dataclass(frozen=True, eq=False)
class Past:
    """What rows attend to besides their own tokens.

    Attributes:
        layers: For each layer its (rows, heads, P, head size) keys and values; None where they are not needed.
        positions: (rows, S) positions of the rows' own tokens.
        length: How many columns P there are.
    """

    layers: tuple[tuple[Tensor, Tensor] | None, ...]
    positions: Tensor
    length: int

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the model's forward; every call may be given the same ones' tensors."""
        return {"past_key_values": _FixedCache(self), "position_ids": self.positions, "use_cache": True}

    def rows(self, index: Tensor) -> Past:
        """Only some rows, (k,) indices."""

        def take(tensor: Tensor) -> Tensor:
            return tensor[index.to(tensor.device)]

        layers = tuple(None if pair is None else (take(pair[0]), take(pair[1])) for pair in self.layers)
        return Past(layers, take(self.positions), self.length)

    def above(self, layer: int) -> Past:
        """Without the keys and values of the layers up to ``layer``, which will not be run."""
        return Past((*[None] * (layer + 1), *self.layers[layer + 1 :]), self.positions, self.length)


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


def take_past(cache: Any, first: Tensor, width: int) -> Past:
    """The part of a cache before each row's first token.

    Args:
        cache: The dynamic cache of a plain forward pass over right-padded rows.
        first: (rows,) columns at which the rows' own tokens begin.
        width: How many columns S of their own the rows will have.
    """
    length = int(first.max())
    layers = tuple((layer.keys[:, :, :length].clone(), layer.values[:, :, :length].clone()) for layer in cache.layers)
    return Past(layers, first.unsqueeze(1) + torch.arange(width, device=first.device), length)


def continued_mask(own: Tensor, first: Tensor, length: int) -> Tensor:
    """(rows, P + S) attention mask of rows that continue: what is before each row's first column, then its own.

    Args:
        own: (rows, S) mask of the rows' own tokens.
        first: (rows,) columns at which they begin.
        length: P, the greatest of them.
    """
    before = torch.arange(length, device=first.device) < first.unsqueeze(1)
    return torch.cat([before.to(own.dtype), own], dim=1)


def from_columns(tensor: Tensor, first: Tensor, width: int) -> Tensor:
    """(rows, t, ...) from each row's own column on: (rows, ``width``, ...); beyond the end the last column repeats."""
    first = first.to(tensor.device)
    columns = (first.unsqueeze(1) + torch.arange(width, device=tensor.device)).clamp_max(tensor.shape[1] - 1)
    return tensor[torch.arange(tensor.shape[0], device=tensor.device).unsqueeze(1), columns]


def continues(model: Any) -> bool:
    """Whether a model gives the same logits when it continues from fixed keys and values; found by trying.

    Not all do: a model may lack explicit positions, keep another kind of state, or build its masks otherwise.
    """
    device = input_device(model)
    random = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, vocabulary, (3, 6), generator=random).to(device)
    mask, first = torch.ones_like(ids), torch.tensor([1, 4, 2], device=device)
    mask[0, 4:] = 0
    if not fits_window(model, ids.shape[1]):
        return False
    with torch.no_grad(), inference_state(model):
        cache = DynamicCache()
        try:
            plain = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True).logits
            past = take_past(cache, first, 2)
            found = model(
                input_ids=from_columns(ids, first, 2),
                attention_mask=continued_mask(from_columns(mask, first, 2), first, past.length),
                **past.arguments(),
            ).logits
        except (TypeError, ValueError, AttributeError, IndexError, NotImplementedError, RuntimeError):
            return False
    return agrees(found, from_columns(plain, first, 2))
