"""What second moments are good for: how near to singular they are, and the shrinkage that would mend it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqedit.support.cholesky import factor_in_place, factored_solve

MAX_MOMENT_CONDITION = 1e6
"""Condition number up to which C0 is used as it is. It is stored in float32, so eigenvalues are known to about 1e-7 of
the largest, and what is below a few times that is rounding."""


@dataclass(frozen=True)
class MomentFigures:
    """Figures of one second moment.

    Attributes:
        d_in: Its size.
        largest: Largest eigenvalue.
        smallest: Smallest eigenvalue; 0 where it cannot be told from 0.
        mean: Mean of the eigenvalues.
        effective_rank: tr(C)^2 / tr(C^2), the number of equal eigenvalues that would spread the variance as much.
    """

    d_in: int
    largest: float
    smallest: float
    mean: float
    effective_rank: float

    @property
    def condition(self) -> float | None:
        """Largest eigenvalue by smallest; None where the matrix is singular."""
        return self.largest / self.smallest if self.smallest > 0 else None

    def shrinkage_for(self, condition: float = MAX_MOMENT_CONDITION) -> float:
        """The least shrinkage s that brings ``(1 - s) C0 + s mean I`` to this condition number, 0 if none is needed.

        From (1 - s) largest + s mean = condition * ((1 - s) smallest + s mean).
        """
        excess = self.largest - condition * self.smallest
        return 0.0 if excess <= 0 else excess / (excess + (condition - 1) * self.mean)


def moment_figures(matrix: Tensor) -> MomentFigures:
    """Figures of a second moment, (d_in, d_in).

    The extreme eigenvalues are found by subspace iteration, with a Cholesky factor for the smallest: a third of d_in^3
    operations, where all eigenvalues would take ten times as many. They are good to about a percent.
    """
    C = matrix.double()
    trace, square = float(C.diagonal().sum()), float(C.square().sum())
    largest = _extreme(lambda Q: C @ Q, C)
    smallest = 0.0
    factor = factor_in_place(C.clone())
    if factor is not None:
        smallest = 1 / _extreme(lambda Q: factored_solve(factor, Q), C)
    # Where the solves are noise, so is the eigenvalue.
    if smallest < 1e-15 * largest:
        smallest = 0.0
    return MomentFigures(len(C), largest, smallest, trace / len(C), trace**2 / square if square else 0.0)


def _extreme(apply: Callable[[Tensor], Tensor], like: Tensor, width: int = 8, steps: int = 40) -> float:
    """The largest eigenvalue of a positive semidefinite map."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(like), min(width, len(like)), generator=generator, dtype=like.dtype).to(like.device)
    Q = torch.linalg.qr(start)[0]
    for _ in range(steps):
        Q = torch.linalg.qr(apply(Q))[0]
    projected = Q.T @ apply(Q)
    return float(torch.linalg.eigvalsh((projected + projected.T) / 2)[-1])
