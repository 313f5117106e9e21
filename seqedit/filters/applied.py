"""What a filter sees of a layer, and what it is there: a linear map of updates, or any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from seqedit.filters.originals import Originals
from seqedit.solver.subspaces import Subspace

Delta = tuple[Tensor, Tensor] | Tensor
"""(d_out, n) and (n, d_in) factors of an update, or the (d_out, d_in) update itself; float64."""


@dataclass(frozen=True, eq=False)
class FilteredLayer:
    """A layer before a batch is written to it.

    Attributes:
        name: The module.
        weight: (d_out, d_in) its weight as it is, in its own type.
        originals: The weights before all edits.
        keys: (n, d_in) float64 keys of the batch.
    """

    name: str
    weight: Tensor
    originals: Originals
    keys: Tensor


@dataclass(frozen=True, eq=False)
class Projected:
    """Delta -> P_left Delta P_right, softened where the strength s is less than 1: each P is I - s (I - P).

    Attributes:
        left: What is kept of the (d_out) outputs; None for all.
        right: What is kept of the (d_in) inputs; None for all.
        strength: 1 for projections.
    """

    left: Subspace | None = None
    right: Subspace | None = None
    strength: float = 1.0

    def __call__(self, B: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of the filtered update; the rank is the same."""
        return self._softened(self.left, B), self._softened(self.right, A.T).T

    def _softened(self, kept: Subspace | None, columns: Tensor) -> Tensor:
        if kept is None:
            return columns
        inside = kept.project(columns)
        return inside if self.strength == 1 else columns + self.strength * (inside - columns)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Any other filter, which is no linear map of updates.

    Attributes:
        apply: Takes factors to the filtered update.
    """

    apply: Callable[[Tensor, Tensor], Delta]

    def __call__(self, B: Tensor, A: Tensor) -> Delta:
        """The filtered update."""
        return self.apply(B, A)


Applied = Projected | Chosen
