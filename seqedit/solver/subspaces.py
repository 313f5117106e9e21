"""Subspaces that an update is confined to, and C^-1 confined to them.

A least squares over updates whose rows lie in a subspace with projector P has the solution of the free one, with
Q (Q^T C Q)^-1 Q^T for C^-1, Q a basis of the subspace. That is P S^-1 P with S = P C P + c (I - P) for any c > 0: S is
a matrix of C's size and of no worse condition, and no basis is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Subspace(Protocol):
    """A linear subspace of R^d."""

    def project(self, X: Tensor) -> Tensor:
        """P X for (d, n) columns."""


@dataclass(frozen=True, eq=False)
class Complement:
    """All that is orthogonal to some directions.

    Attributes:
        directions: (d, k) orthonormal, float64.
    """

    directions: Tensor

    def project(self, X: Tensor) -> Tensor:
        """X - U U^T X."""
        U = self.directions.to(X.device)
        once = X - U @ (U.T @ X)
        # Twice: where nearly all of X lies along the directions, what rounding left of them is no small part of it.
        return once - U @ (U.T @ once)


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Vectors that are zero but at some coordinates.

    Attributes:
        mask: (d,) bool.
    """

    mask: Tensor

    def project(self, X: Tensor) -> Tensor:
        """X, zero elsewhere."""
        return X * self.mask.to(X.device, X.dtype)[:, None]


def confined_matrix(C: Tensor, kept: Subspace) -> Tensor:
    """S = P C P + c (I - P), with c the mean of C's diagonal."""
    inside = kept.project(C)
    S = kept.project(inside.mT)
    eye = C.new_zeros(C.shape)
    eye.diagonal().fill_(float(C.diagonal().mean()))
    S += eye - kept.project(eye)
    return (S + S.mT) / 2
