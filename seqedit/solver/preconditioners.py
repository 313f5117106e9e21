"""What takes a batch's keys K to C^-1 K: the only thing in which the closed forms differ from each other.

`CholeskyPreconditioner` is C = weight * C0 (ROME, EMMET, MEMIT). `protect` adds the keys K_p of earlier edits,
C + K_p K_p^T. `NullSpacePreconditioner` is AlphaEdit's (arXiv 2410.02355): with P the projector on the eigenvectors of
C0 whose eigenvalues are below a threshold, its update R K^T P (K_p K_p^T P + K K^T P + L2 I)^-1 equals
R (D + I)^-1 (C^-1 K)^T for the "inverse" C^-1 = P (L2 I + P K_p K_p^T P)^-1 P, by the matrix inversion lemma.

Memory: a layer's C takes d_in^2 float64 and is factored in its own memory, beside the d_in^2 float32 of C0. At d_in =
28,672 that is 6.6 GB and 3.3 GB. AlphaEdit's eigenvectors take four float64 matrices while they are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqedit.errors import InputError, NumericsError
from seqedit.solver.protected_keys import Preconditioner, ProtectedPreconditioner, protect
from seqedit.solver.subspaces import Subspace, confined_matrix
from seqedit.support.cholesky import cholesky_, factored_solve

__all__ = [
    "CholeskyPreconditioner",
    "ConfinedPreconditioner",
    "NullSpacePreconditioner",
    "Preconditioner",
    "ProtectedPreconditioner",
    "preserved_norm",
    "protect",
]

_OUTSIDE = 1e-12
"""Vectors with less than this squared length outside of a subspace lie in it."""


@dataclass(frozen=True, eq=False)
class CholeskyPreconditioner:
    """C^-1 from the lower Cholesky factor of C.

    Attributes:
        factor: (d_in, d_in) float64; systems are solved on its device.
    """

    factor: Tensor

    @property
    def order(self) -> int:
        """d_in."""
        return len(self.factor)

    def __call__(self, K: Tensor) -> Tensor:
        return factored_solve(self.factor, K.to(self.factor.device)).to(K.device)

    def with_keys(self, keys: Tensor) -> CholeskyPreconditioner:
        """C + K_p K_p^T factored, for K_p^T (N, d_in)."""
        keys = keys.to(self.factor.device, torch.float64)
        C = self.factor @ self.factor.mT
        return CholeskyPreconditioner(cholesky_(C.addmm_(keys.T, keys), "the layer with its protected keys"))

    def product(self, X: Tensor) -> Tensor:
        """C X."""
        X_there = X.to(self.factor.device)
        return (self.factor @ (self.factor.mT @ X_there)).to(X.device)

    def confined(self, kept: Subspace) -> ConfinedPreconditioner:
        """P S^-1 P with S = P C P + c (I - P), factored."""
        S = confined_matrix(self.factor @ self.factor.mT, kept)
        return ConfinedPreconditioner(
            CholeskyPreconditioner(cholesky_(S, "the layer within what its filter leaves")), kept
        )


@dataclass(frozen=True, eq=False)
class ConfinedPreconditioner:
    """P S^-1 P = Q (Q^T C Q)^-1 Q^T.

    Attributes:
        whole: S^-1.
        kept: The subspace.
    """

    whole: CholeskyPreconditioner
    kept: Subspace

    @property
    def order(self) -> int:
        """d_in."""
        return self.whole.order

    def __call__(self, K: Tensor) -> Tensor:
        return self.kept.project(self.whole(self.kept.project(K)))

    def with_keys(self, keys: Tensor) -> ConfinedPreconditioner:
        """Keys count by what they have in the subspace."""
        inside = self.kept.project(keys.double().T).T
        return ConfinedPreconditioner(self.whole.with_keys(inside), self.kept)

    def product(self, X: Tensor) -> Tensor:
        """P C P X."""
        return self.kept.project(self.whole.product(self.kept.project(X)))

    def confined(self, kept: Subspace) -> ConfinedPreconditioner:
        """A second subspace is not asked for anywhere."""
        raise NotImplementedError("C^-1 is confined to a subspace already")


@dataclass(frozen=True, eq=False)
class NullSpacePreconditioner:
    """P (L2 I)^-1 P; earlier keys are added with `protect`, which gives P (L2 I + P K_p K_p^T P)^-1 P.

    Attributes:
        basis: Orthonormal basis U of the null space, (d_in, m) float64; P = U U^T. Products are formed on its device.
        l2: AlphaEdit's L2.
        factor: Lower Cholesky factor of L2 I + U^T K_p K_p^T U, (m, m), if keys were added to the system itself.
    """

    basis: Tensor
    l2: float
    factor: Tensor | None = None

    @property
    def order(self) -> int:
        """m."""
        return self.basis.shape[1]

    def __call__(self, K: Tensor) -> Tensor:
        inside = self.basis.T @ K.to(self.basis.device)
        solved = inside / self.l2 if self.factor is None else factored_solve(self.factor, inside)
        return (self.basis @ solved).to(K.device)

    def with_keys(self, keys: Tensor) -> NullSpacePreconditioner:
        """P (L2 I + P K_p K_p^T P)^-1 P by a factorization in the null space, for K_p^T (N, d_in)."""
        inside = keys.to(self.basis.device, torch.float64) @ self.basis
        if self.factor is None:
            system = torch.eye(self.order, dtype=torch.float64, device=self.basis.device).mul_(self.l2)
        else:
            system = self.factor @ self.factor.mT
        factor = cholesky_(system.addmm_(inside.T, inside), "the null space with its protected keys")
        return NullSpacePreconditioner(self.basis, self.l2, factor)

    def product(self, X: Tensor) -> Tensor:
        """P (L2 I + K_p K_p^T) P X: what lies outside of the null space has no finite weight and is left out."""
        inside = self.basis.T @ X.to(self.basis.device)
        weighed = self.l2 * inside if self.factor is None else self.factor @ (self.factor.mT @ inside)
        return (self.basis @ weighed).to(X.device)

    def confined(self, kept: Subspace) -> NullSpacePreconditioner:
        """In the part of the null space that lies in the subspace.

        Raises:
            NumericsError: there is none.
        """
        outside = self.basis - kept.project(self.basis)
        values, vectors = torch.linalg.eigh(outside.T @ outside)  # squared lengths outside, 0 to 1
        within = vectors[:, values < _OUTSIDE]
        if within.shape[1] == 0:
            raise NumericsError(
                "the null space has nothing in common with what the update's filter leaves; lower filter_energy or "
                "raise nullspace_threshold"
            )
        factor = None
        if self.factor is not None:
            root = self.factor.mT @ within
            factor = cholesky_((root.T @ root).contiguous(), "the null space within what its filter leaves")
        return NullSpacePreconditioner(self.basis @ within, self.l2, factor)


def preserved_norm(inner: Preconditioner, W: Tensor) -> float:
    """|W|_C = sqrt(tr(W C W^T)): how large a matrix is to what is preserved.

    For C = weight C0 it is sqrt(weight) times the root mean square of |W k| over the text's keys; for AlphaEdit, whose
    C is L2 times the projector on the null space, sqrt(L2) times the norm of W within the null space.

    Args:
        inner: C^-1 without earlier keys.
        W: (d_out, d_in).

    Raises:
        InputError: a C^-1 of another kind, which does not say its C.
    """
    if isinstance(inner, CholeskyPreconditioner):
        root = inner.factor
    elif isinstance(inner, NullSpacePreconditioner):
        root = inner.basis * inner.l2**0.5 if inner.factor is None else inner.basis @ inner.factor
    else:
        raise InputError("setting 'trust_region' is not known for this method: its C^-1 does not say its C")
    return float((W.to(root.device, torch.float64) @ root).norm())
