"""A null space that shrinks by the keys of every edit (EvoEdit, arXiv 2510.13851): what a batch writes is zero at them.

With P the projector on the null space of C0, U its orthonormal basis, and K the keys of the facts in force, what is
left is P_t = P - (the projector on span(P K)). In the coordinates of U, span(P K) has an orthonormal basis W, so
P_t = U (I - W W^T) U^T: a new key adds a column to W, by two Gram-Schmidt passes over the columns before it. Neither
eigenvectors nor U are computed again. The update

    Delta = R K^T P_t (K K^T P_t + L2 I)^-1

equals R (D + I)^-1 (C^-1 K)^T for the "inverse" C^-1 = P_t / L2, as with AlphaEdit's P: but where AlphaEdit weighs
earlier keys against new ones, C^-1 = P (L2 I + P K_p K_p^T P)^-1 P, here Delta k is zero at every one of them.

W is a function of the list of keys alone, bit for bit: keys are taken in blocks that begin at fixed places of the list,
so a batch that was reverted leaves nothing behind, and what is kept from call to call only saves work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seqedit.errors import NumericsError
from seqedit.solver.preconditioners import NullSpacePreconditioner, Preconditioner
from seqedit.solver.protected_keys import ProtectedKeys
from seqedit.solver.subspaces import Subspace

BLOCK = 32
"""Keys that are projected together."""
ROUNDING = 1e-12
"""Share of a key up to which its part in the null space is rounding."""


@dataclass(frozen=True, eq=False)
class EvolvingNullSpace:
    """P_t / L2.

    Attributes:
        name: The layer's module, for messages.
        basis: U, (d_in, m) float64; products are formed on its device.
        l2: L2.
        drop: A key of which at most this share of its part in the null space is left takes no direction of its own.
        used: W, (m, r) float64: directions that the facts in force hold, in U's coordinates.
    """

    name: str
    basis: Tensor
    l2: float
    drop: float
    used: Tensor

    @property
    def dimension(self) -> int:
        """m, the dimension before any edit."""
        return self.basis.shape[1]

    @property
    def left(self) -> int:
        """Dimension of what the facts in force leave."""
        return self.dimension - self.used.shape[1]

    @property
    def order(self) -> int:
        """m."""
        return self.dimension

    def __call__(self, K: Tensor) -> Tensor:
        K_here = K.to(self.basis.device)
        inside = without(self.used, self.basis.T @ K_here)
        # Of a key that is held nothing is left but rounding, and that has a direction, as plans would see.
        inside = inside * (inside.norm(dim=0) > ROUNDING * K_here.norm(dim=0))
        return (self.basis @ inside / self.l2).to(K.device)

    def with_keys(self, keys: Tensor) -> NullSpacePreconditioner:
        """P_t (L2 I + P_t K K^T P_t)^-1 P_t for K^T (N, d_in): keys that are weighed, as AlphaEdit does."""
        return self._of_what_is_left().with_keys(keys)

    def product(self, X: Tensor) -> Tensor:
        """L2 P_t X."""
        return self._of_what_is_left().product(X)

    def confined(self, kept: Subspace) -> NullSpacePreconditioner:
        """In the part of what is left that lies in the subspace."""
        return self._of_what_is_left().confined(kept)

    def _of_what_is_left(self) -> NullSpacePreconditioner:
        free = torch.linalg.qr(self.used, mode="complete").Q[:, self.used.shape[1] :]
        return NullSpacePreconditioner(self.basis @ free, self.l2)


class EvolvingKeys:
    """The directions that a run's facts in force hold at one layer; like `ProtectedKeys`, with an exact zero at them.

    Args:
        inner: The null space without them.
    """

    def __init__(self, inner: EvolvingNullSpace) -> None:
        self.inner = inner
        self._known = torch.empty(0, 0)
        self._used = inner.used
        self._columns = [inner.used.shape[1]]
        """Columns of W before every full block of the known keys, and after the last."""

    def protect(self, keys: Tensor) -> EvolvingNullSpace:
        """The null space without the directions of these keys.

        Args:
            keys: K^T, (N, d_in), of any floating type.

        Raises:
            NumericsError: nothing of it is left.
        """
        common = self._common(keys) // BLOCK
        self._columns = self._columns[: common + 1]
        used = self._used[:, : self._columns[-1]].contiguous()
        # Now, so that all of it agrees if what follows fails.
        self._known, self._used = self._known[: common * BLOCK], used
        for start in range(common * BLOCK, len(keys), BLOCK):
            block = keys[start : start + BLOCK]
            used = self._extended(used, block)
            if len(block) == BLOCK:
                self._used = used
                self._columns.append(used.shape[1])
        whole = len(keys) // BLOCK * BLOCK
        self._known = keys[:whole].clone()  # the caller may change its tensor before the next call
        found = replace(self.inner, used=used)
        if found.left == 0:
            raise NumericsError(
                f"nothing is left of the null space of '{self.inner.name}': the {len(keys)} facts in force hold all "
                f"{found.dimension} dimensions; revert some of them, raise nullspace_threshold, or edit with alphaedit"
            )
        return found

    def _common(self, keys: Tensor) -> int:
        """With how many of the known keys these begin."""
        known = self._known
        if known.shape[1:] != keys.shape[1:] or known.dtype != keys.dtype or known.device != keys.device:
            return 0
        few = min(len(known), len(keys))
        return int((known[:few] == keys[:few]).all(dim=1).long().cumprod(0).sum())

    def _extended(self, used: Tensor, keys: Tensor) -> Tensor:
        """W with the directions of a block of keys."""
        basis = self.inner.basis
        inside = basis.T @ keys.to(basis.device, torch.float64).T
        # A part that is rounding is none, however much of it is left.
        least = torch.maximum(self.inner.drop * inside.norm(dim=0), ROUNDING * keys.to(inside).norm(dim=1))
        inside = without(used, inside)
        new = inside[:, :0]
        for column, small in zip(inside.T.unsqueeze(2), least, strict=True):
            rest = without(new, column)
            if not bool(rest.norm() > small):
                continue
            # Once more against all, normalised: where little was left, rounding had put old directions into it.
            rest = without(new, without(used, rest / rest.norm()))
            if used.shape[1] + new.shape[1] < self.inner.dimension:
                new = torch.cat([new, rest / rest.norm()], dim=1)
        return torch.cat([used, new], dim=1)


def without(directions: Tensor, columns: Tensor) -> Tensor:
    """(I - W W^T) of some columns, in two passes, as one leaves rounding errors of the size of what it took away."""
    for _ in range(2):
        columns = columns - directions @ (directions.T @ columns)
    return columns


def keys_in_force(inner: Preconditioner) -> ProtectedKeys | EvolvingKeys:
    """What takes in the keys of the facts in force at a layer: weighed, or with an exact zero at them."""
    return EvolvingKeys(inner) if isinstance(inner, EvolvingNullSpace) else ProtectedKeys(inner)
