"""Keys of earlier edits that are protected batch after batch: what was solved for them is kept and extended.

By the Woodbury identity, (C + K_p K_p^T)^-1 = C^-1 - S F^-1 S^T with S = C^-1 K_p and F = I + K_p^T S. When a batch
adds n keys to N earlier ones, S gets n columns (2 d_in^2 n operations) and the Cholesky factor of F gets n rows
(N^2 n), where starting again takes 2 d_in^2 N and N^3 / 3.

Beyond N = d_in the identity is the dearer form: S and F are then larger than C. So all keys are added to C itself,
which is factored anew (d_in^3 / 3 operations, once in d_in keys), and S and F begin empty again. However many edits
there were, S and F together never hold more than 2 d_in^2 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from seqedit.solver.subspaces import Subspace
from seqedit.support.cholesky import check_pivots, cholesky, factored_solve

_NAME = "the protected keys"


class Preconditioner(Protocol):
    """C^-1, and how it takes in keys."""

    @property
    def order(self) -> int:
        """Rows of the system that was factored."""

    def __call__(self, K: Tensor) -> Tensor:
        """C^-1 K for (d_in, n) float64 keys, on their device."""

    def with_keys(self, keys: Tensor) -> Preconditioner:
        """(C + K_p K_p^T)^-1 for the rows K_p^T, (N, d_in), by a factorization of its own."""

    def product(self, X: Tensor) -> Tensor:
        """C X for (d_in, n) float64 columns, on their device."""

    def confined(self, kept: Subspace) -> Preconditioner:
        """Q (Q^T C Q)^-1 Q^T for a basis Q of a subspace (`seqedit.solver.subspaces`)."""


@dataclass(frozen=True, eq=False)
class ProtectedPreconditioner:
    """(C + K_p K_p^T)^-1 by the Woodbury identity, so that C is factored once for a whole run.

    Attributes:
        inner: C^-1.
        keys: K_p^T, (N, d_in).
        solved: (C^-1 K_p)^T, (N, d_in) float64.
        capacitance: Lower Cholesky factor of I + K_p^T C^-1 K_p, (N, N) float64.
    """

    inner: Preconditioner
    keys: Tensor
    solved: Tensor
    capacitance: Tensor

    @property
    def order(self) -> int:
        """Rows of the system that was factored."""
        return self.inner.order

    def __call__(self, K: Tensor) -> Tensor:
        first = self.inner(K)
        # solved @ K is K_p^T C^-1 K: C is symmetric, so the keys themselves are not needed.
        return first - self.solved.T @ factored_solve(self.capacitance, self.solved @ K)

    def with_keys(self, keys: Tensor) -> Preconditioner:
        """These keys besides those that are protected already."""
        return self.inner.with_keys(torch.cat([self.keys.to(keys), keys]))

    def product(self, X: Tensor) -> Tensor:
        """(C + K_p K_p^T) X."""
        keys = self.keys.to(X)
        return self.inner.product(X) + keys.T @ (keys @ X)

    def confined(self, kept: Subspace) -> Preconditioner:
        """The same identity holds within a subspace."""
        return protect(self.inner.confined(kept), self.keys.double().T)


def protect(inner: Preconditioner, keys: Tensor | None) -> Preconditioner:
    """C^-1 with the keys of earlier edits added to C.

    Args:
        inner: C^-1.
        keys: K_p, (d_in, N) float64; None or no columns for none.
    """
    if keys is None or keys.shape[1] == 0:
        return inner
    return ProtectedKeys(inner).protect(keys.T)


class ProtectedKeys:
    """The protected keys of one layer over a run.

    Args:
        inner: C^-1 without them.
    """

    _solved: Tensor
    _factor: Tensor

    def __init__(self, inner: Preconditioner) -> None:
        self.inner = inner
        self._start(inner, 0)
        self._known = torch.empty(0, 0)

    def protect(self, keys: Tensor) -> Preconditioner:
        """C^-1 with these keys added to C.

        What was solved for them last time is used again, as far as the two lists begin with the same keys. The result
        is good until the next call.

        Args:
            keys: K_p^T, (N, d_in), of any floating type, on the device of the later K.
        """
        common = self._common(keys)
        if common < self._folded:
            self._start(self.inner, 0)
            common = 0
        # Now, so that all of it agrees if what follows fails.
        self._known, self._count = self._known[:common], common - self._folded
        self._factor = self._factor[: self._count, : self._count]
        if len(keys) - self._folded > self.inner.order:
            self._start(self.inner.with_keys(keys), len(keys))
        elif len(keys) > common:
            self._extend(keys[common:].double())
        # A copy: the caller may change its tensor before the next call.
        self._known = keys.clone()
        if self._count == 0:
            return self._base
        return ProtectedPreconditioner(
            self._base, self._known[self._folded :], self._solved[: self._count], self._factor
        )

    def _start(self, base: Preconditioner, folded: int) -> None:
        """Nothing solved yet; the first ``folded`` keys are in C itself."""
        self._base, self._folded, self._count = base, folded, 0
        self._solved = torch.empty(0, 0, dtype=torch.float64)
        self._factor = torch.empty(0, 0, dtype=torch.float64)

    def _common(self, keys: Tensor) -> int:
        """With how many keys of the last call these begin."""
        known = self._known
        if known.shape[1:] != keys.shape[1:] or known.dtype != keys.dtype or known.device != keys.device:
            return 0
        few = min(len(known), len(keys))
        if torch.equal(known[:few], keys[:few]):
            return few
        return int((known[:few] == keys[:few]).all(dim=1).long().cumprod(0).sum())

    def _extend(self, new: Tensor) -> None:
        old, total = self._count, self._count + len(new)
        solved = self._base(new.T).T
        corner = solved @ new.T
        corner = (corner + corner.T) / 2
        corner.diagonal().add_(1)
        factor = new.new_zeros(total, total)
        if old:
            below = torch.linalg.solve_triangular(self._factor, self._solved[:old] @ new.T, upper=False).T
            corner -= below @ below.T
            factor[:old, :old] = self._factor
            factor[old:, :old] = below
        factor[old:, old:] = cholesky(corner, _NAME)
        check_pivots(factor, _NAME)
        if total > len(self._solved):
            # Half as much again, so that a run of small batches does not copy everything in each.
            held = self._solved
            self._solved = new.new_empty(max(total, min(total * 3 // 2, self.inner.order)), new.shape[1])
            if old:
                self._solved[:old] = held[:old]
        self._solved[old:total] = solved
        self._factor, self._count = factor, total
