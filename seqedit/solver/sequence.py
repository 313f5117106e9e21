"""A sequence of batches that stays equal to one joint solution (OTE-SE, arXiv 2605.26670, its recursion for Delta_t).

Facts in force i have a key k_i and a residual r_i = v_i - W k_i: what all updates *together* are to write at the key,
relative to the weights W that the sequence began with. The joint solution of all of them is

    J = sum_i r_i k_i^T (a C + sum_i k_i k_i^T)^-1,

which for a = 1 is MEMIT's least squares. Let S be the sum of the updates that were written, and R the residuals of a
new batch on the state as it is (r = R + S k). With C_t = a C + sum K K^T over all facts in force, the batch included,
the update that makes the new sum the joint solution is J_t - S. In the paper's form it is

    Delta_t = (R_t K_t^T - E_{t-1}) C_t^-1,   E_{t-1} = S C_{t-1} - sum_{i<t} r_i k_i^T,

since S C_t = S C_{t-1} + S K_t K_t^T. E is what the written updates have not done of what was asked: zero where each
was written as it was solved for, (filtered Delta_t - Delta_t) C_t after a filter, and whatever a revert, a swap,
another order or a superseded fact (whose key leaves both sums) leave. It is not carried along but derived from the
state.

E C^-1 is a matrix as small as an update: G = E_{t-1} C_{t-1}^-1 = S - J_{t-1}. As C_{t-1} = C_t - K_t K_t^T,

    Delta_t = -G + (R_t + G K_t) K_t^T C_t^-1:

first the state is repaired, then the batch is solved on the repaired one, with the earlier keys in C. So nothing but
C^-1 is needed, and AlphaEdit's projected inverse fits as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from seqedit.solver.closed_form import solve
from seqedit.solver.protected_keys import Preconditioner
from seqedit.solver.subspaces import Subspace

ROUNDING = 2.0**-20
"""Share of |S| up to which G is taken for rounding: updates are stored in float32, one after the other."""


@dataclass(frozen=True, eq=False)
class Held:
    """What is in force of a sequence at one layer.

    Attributes:
        keys: (N, d_in) keys of the facts in force, oldest first.
        residuals: (N, d_out) what all updates together are to write at them.
        written: Updates whose sum S is in the weights: (d_out, n) and (n, d_in) factors, or (d_out, d_in) matrices.
            Those of facts that are no longer in force are among them as long as they are in the weights.
    """

    keys: Tensor
    residuals: Tensor
    written: tuple[tuple[Tensor, Tensor] | Tensor, ...] = ()

    def to(self, device: torch.device) -> Held:
        """The same on a device."""
        written = tuple(
            part.to(device) if isinstance(part, Tensor) else (part[0].to(device), part[1].to(device))
            for part in self.written
        )
        return Held(self.keys.to(device), self.residuals.to(device), written)

    def weighed_keys(self, a: float) -> Tensor:
        """(N, d_in) keys as C takes them in: C + K K^T / a has the joint solution of relaxation a."""
        return self.keys.double() / sqrt(a)

    def at(self, K: Tensor) -> Tensor:
        """S K, (d_out, n), for (d_in, n) keys."""
        found = torch.zeros(self.residuals.shape[1], K.shape[1], dtype=torch.float64, device=K.device)
        for part in self.written:
            if isinstance(part, Tensor):
                found += part.to(K) @ K
            else:
                found += part[0].to(K) @ (part[1].to(K) @ K)
        return found


@dataclass(frozen=True, eq=False)
class Undone:
    """G = S - J: by how much the written updates differ from the joint solution of the facts in force.

    Attributes:
        B: (d_out, r) float64.
        A: (r, d_in) float64.
        share: |G| / |S| before what is rounding was left out; 0 without updates.
        floor: Singular values up to this are rounding.
    """

    B: Tensor
    A: Tensor
    share: float
    floor: float = 0.0

    def at(self, K: Tensor) -> Tensor:
        """G K, (d_out, n)."""
        return self.B @ (self.A @ K)

    def mapped(self, linear: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Factors of what a linear map makes of G, without what is rounding."""
        B, A = linear(self.B, self.A)
        if B.shape[1] == 0:
            return B, A
        U, values, V = _singular([B], [A], None)
        kept = values > self.floor
        return U[:, kept] * values[kept], V[kept]


def joint_factors(precondition: Callable[[Tensor], Tensor], held: Held, a: float) -> tuple[Tensor, Tensor]:
    """Factors of J, the joint solution of the facts in force.

    Args:
        precondition: (C + K K^T / a)^-1 with the held facts' keys K among those it protects (`Held.weighed_keys`).
        held: The facts.
        a: Relaxation of the equality constraint, > 0.

    Returns:
        (d_out, N) and (N, d_in), float64.
    """
    keys = held.weighed_keys(a)
    return held.residuals.double().T / sqrt(a), precondition(keys.T).T


def undone(precondition: Callable[[Tensor], Tensor], held: Held, a: float, *, rounding: float = ROUNDING) -> Undone:
    """By how much a state differs from the joint solution of its facts; minus this, written to it, mends it.

    Args:
        precondition: As for `joint_factors`.
        held: The facts in force and what was written.
        a: Relaxation, > 0.
        rounding: Singular values of G up to this share of |S| (Frobenius) are left out.
    """
    B, A = joint_factors(precondition, held, a)
    parts = [(-B, A)]
    matrix = None
    for part in held.written:
        if isinstance(part, Tensor):
            matrix = part.double() if matrix is None else matrix + part.double()
        else:
            parts.append((part[0].double(), part[1].double()))
    U, values, V = _singular([p[0].to(B) for p in parts], [p[1].to(B) for p in parts], matrix)
    size = _norm(held.written)
    whole = float(values.norm())
    floor = rounding * (size or whole)
    kept = values > floor
    return Undone(U[:, kept] * values[kept], V[kept], whole / size if size else 0.0, floor)


def written_within(precondition: Preconditioner, confined: Preconditioner, kept: Subspace, held: Held) -> Held:
    """The same facts with S Pi for S, what of S counts where updates are confined to a subspace.

    The minimum of a least squares with Hessian C over updates from S on whose rows lie in the subspace is
    S + (J - S) Pi with Pi = C Q (Q^T C Q)^-1 Q^T, which is the identity in the subspace. So G Pi = S Pi - J Pi, where
    J Pi is the joint solution by the confined C^-1.

    Args:
        precondition: (C + K K^T / a)^-1 with the held facts' keys among those it protects.
        confined: The same within the subspace.
        kept: The subspace.
        held: The facts in force and what was written.
    """

    def rows(A: Tensor) -> Tensor:
        columns = A.double().T
        inside = kept.project(columns)
        return (inside + confined(precondition.product(columns - inside))).T

    parts: list[tuple[Tensor, Tensor] | Tensor] = []
    for part in held.written:
        parts.append(rows(part) if isinstance(part, Tensor) else (part[0], rows(part[1])))
    return Held(held.keys, held.residuals, tuple(parts))


def solve_in_sequence(
    precondition: Callable[[Tensor], Tensor], left: Undone, K: Tensor, R: Tensor, a: float
) -> tuple[Tensor, Tensor]:
    """Factors of the batch's own part of Delta_t: (R + G K) K^T C_t^-1, on the state repaired by -G.

    Args:
        precondition: (C + K_p K_p^T / a)^-1 with the keys of the facts in force.
        left: G.
        K: The batch's keys as columns, (d_in, n).
        R: Its residuals on the state as it is, (d_out, n).
        a: Relaxation, > 0.
    """
    return solve(precondition, K, R.double() + left.at(K.double()), a)


def _norm(written: Sequence[tuple[Tensor, Tensor] | Tensor]) -> float:
    total = None
    for part in written:
        matrix = part.double() if isinstance(part, Tensor) else part[0].double() @ part[1].double()
        total = matrix if total is None else total + matrix
    return 0.0 if total is None else float(total.norm())


def _singular(Bs: list[Tensor], As: list[Tensor], matrix: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    B, A = torch.cat(Bs, dim=1), torch.cat(As, dim=0)
    if matrix is not None or B.shape[1] > min(B.shape[0], A.shape[1]):
        whole = B @ A if matrix is None else B @ A + matrix.to(B)
        U, values, V = torch.linalg.svd(whole, full_matrices=False)
        return U, values, V
    left, right = torch.linalg.qr(B), torch.linalg.qr(A.T)
    U, values, V = torch.linalg.svd(left.R @ right.R.T)
    return left.Q @ U, values, V @ right.Q.T
