"""What an editing method works with, and the result it hands back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqedit.anatomy import Anatomy, Projection
from seqedit.preconditioner import Preconditioner


@dataclass(frozen=True, eq=False)
class Workbench:
    """A model in its current state, with what every closed form needs.

    Attributes:
        model: The causal LM; methods write to it and `scratch` puts it back.
        tokenizer: Its fast tokenizer.
        parts: Its anatomy.
        contexts: Groups of context templates.
        precondition: C^-1 of a layer, earlier keys that are protected included.
        max_tokens: Padded tokens of one forward pass.
    """

    model: Any
    tokenizer: Any
    parts: Anatomy
    contexts: Sequence[Sequence[str]]
    precondition: Callable[[Projection], Preconditioner]
    max_tokens: int = 8192


@dataclass(frozen=True, eq=False)
class LayerUpdate:
    """Update of one FFN output projection.

    Attributes:
        projection: The module.
        B: (d_out, n) float64.
        A: (n, d_in) float64.
        keys: (n, d_in) float64, the keys it was solved for.
    """

    projection: Projection
    B: Tensor
    A: Tensor
    keys: Tensor


@dataclass(frozen=True, eq=False)
class Update:
    """What a method computed for a batch.

    Attributes:
        layers: One update per edited layer, in order.
        target_values: (n, d) target values.
        losses: Last loss of each request's optimisation.
        updates: Optimisation updates each request took.
    """

    layers: tuple[LayerUpdate, ...]
    target_values: Tensor
    losses: tuple[float, ...]
    updates: tuple[int, ...]


@contextmanager
def scratch(projections: Sequence[Projection]) -> Iterator[dict[str, Tensor]]:
    """Let a block overwrite weights; afterwards they are bit-equal to before, also after an error.

    Yields:
        Module name -> (d_out, d_in) copy of the weight as it was.
    """
    saved = {p.name: p.matrix().clone() for p in projections}
    try:
        yield saved
    finally:
        for projection in projections:
            projection.write(saved[projection.name])


def add_to_weight(projection: Projection, original: Tensor, total: Tensor) -> None:
    """Write ``original + total``, summed in double precision and rounded once to the parameter's dtype."""
    with torch.no_grad():
        projection.write((original.double() + total.to(original.device)).to(original.dtype))
