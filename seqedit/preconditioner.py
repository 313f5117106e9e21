"""What takes a batch's keys K to C^-1 K: the only thing in which the closed forms differ from each other.

`CholeskyPreconditioner` is C = weight * C0 (ROME, EMMET, MEMIT). `protect` adds the keys K_p of earlier edits,
C + K_p K_p^T. `NullSpacePreconditioner` is AlphaEdit's (arXiv 2410.02355): with P the projector on the eigenvectors of
C0 whose eigenvalues are below a threshold, its update R K^T P (K_p K_p^T P + K K^T P + L2 I)^-1 equals
R (D + I)^-1 (C^-1 K)^T for the "inverse" C^-1 = P (L2 I + P K_p K_p^T P)^-1 P, by the matrix inversion lemma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from seqedit.anatomy import Projection
from seqedit.closed_form import cholesky
from seqedit.errors import NumericsError
from seqedit.second_moments import SecondMoments, shrink


class Preconditioner(Protocol):
    """Applies C^-1."""

    def __call__(self, K: Tensor) -> Tensor:
        """C^-1 K for (d_in, n) float64 keys."""


@dataclass(frozen=True, eq=False)
class CholeskyPreconditioner:
    """C^-1 from the lower Cholesky factor of C.

    Attributes:
        factor: (d_in, d_in) float64.
    """

    factor: Tensor

    def __call__(self, K: Tensor) -> Tensor:
        return torch.cholesky_solve(K, self.factor)


@dataclass(frozen=True, eq=False)
class ProtectedPreconditioner:
    """(C + K_p K_p^T)^-1 by the Woodbury identity, so that C is factored once for a whole run.

    Attributes:
        inner: C^-1.
        keys: K_p, (d_in, N).
        solved: C^-1 K_p, (d_in, N).
        capacitance: Lower Cholesky factor of I + K_p^T C^-1 K_p, (N, N).
    """

    inner: Preconditioner
    keys: Tensor
    solved: Tensor
    capacitance: Tensor

    def __call__(self, K: Tensor) -> Tensor:
        first = self.inner(K)
        return first - self.solved @ torch.cholesky_solve(self.keys.T @ first, self.capacitance)


def protect(inner: Preconditioner, keys: Tensor | None) -> Preconditioner:
    """C^-1 with the keys of earlier edits added to C.

    Args:
        inner: C^-1.
        keys: K_p, (d_in, N) float64; None or no columns for none.
    """
    if keys is None or keys.shape[1] == 0:
        return inner
    if keys.shape[1] > keys.shape[0]:
        # K_p K_p^T has rank d_in at most: a square root of it does the same with fewer columns.
        values, vectors = torch.linalg.eigh(keys @ keys.T)
        keys = vectors * values.clamp_min(0).sqrt()
    solved = inner(keys)
    gram = keys.T @ solved
    eye = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    return ProtectedPreconditioner(inner, keys, solved, cholesky((gram + gram.T) / 2 + eye, "the protected keys"))


@dataclass(frozen=True, eq=False)
class NullSpacePreconditioner:
    """P (L2 I)^-1 P; earlier keys are added with `protect`, which gives P (L2 I + P K_p K_p^T P)^-1 P.

    Attributes:
        basis: Orthonormal basis U of the null space, (d_in, m) float64; P = U U^T.
        l2: AlphaEdit's L2.
    """

    basis: Tensor
    l2: float

    def __call__(self, K: Tensor) -> Tensor:
        return self.basis @ (self.basis.T @ K) / self.l2


class Factorizations:
    """Factorizations of the second moments, made once for a whole run and reused by every batch.

    Args:
        moments: C0 of every layer that will be edited.
    """

    def __init__(self, moments: SecondMoments) -> None:
        self.moments = moments
        self._made: dict[tuple[str | float, ...], Tensor] = {}

    def cholesky(
        self, projection: Projection, *, weight: float, shrinkage: float, ridge: float = 0.0
    ) -> CholeskyPreconditioner:
        """C = weight * ((1 - s) C0 + s mean(diag C0) I) + ridge I, factored.

        Shrinkage s towards the scaled identity keeps C invertible where little text was seen or keys are few (Ledoit
        and Wolf, 2004); s = 0 takes C0 as it is. A ridge is the weight of |Delta|^2 in the least-squares objective.

        Raises:
            NumericsError: C is not positive definite, or too near to singular.
        """
        key = ("cholesky", projection.name, weight, shrinkage, ridge)
        if key not in self._made:
            C = shrink(self._matrix(projection), shrinkage) * weight
            C.diagonal().add_(ridge)
            self._made[key] = cholesky(C, f"'{projection.name}'")
        return CholeskyPreconditioner(self._made[key].to(projection.weight.device))

    def null_space(self, projection: Projection, *, threshold: float, l2: float) -> NullSpacePreconditioner:
        """The eigenvectors of C0 with eigenvalues below ``threshold``.

        Raises:
            NumericsError: there are none.
        """
        key = ("null space", projection.name, threshold)
        if key not in self._made:
            values, vectors = torch.linalg.eigh(self._matrix(projection))
            basis = vectors[:, values < threshold]
            if basis.shape[1] == 0:
                raise NumericsError(
                    f"no eigenvalue of the second moment of '{projection.name}' is below nullspace_threshold "
                    f"{threshold:g} (the smallest is {float(values[0]):.3g}); raise it"
                )
            self._made[key] = basis
        return NullSpacePreconditioner(self._made[key].to(projection.weight.device), l2)

    def _matrix(self, projection: Projection) -> Tensor:
        self.moments.require([projection])
        return self.moments.matrices[projection.name].to(projection.weight.device).double()
