"""The one closed form of ROME, EMMET and MEMIT, in double precision.

    Delta = R (D + a I)^-1 (C^-1 K)^T,   D = K^T C^-1 K,   rank <= n

a = 0 is the equality constraint (ROME for n = 1, arXiv 2202.05262 eq. 2; EMMET, arXiv 2403.14236 eq. 11), a = 0.1
EMMET as published, a = 1 MEMIT (arXiv 2210.07229 eq. 14), since K^T (C + K K^T)^-1 = (I + D)^-1 K^T C^-1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqedit.errors import NumericsError

MAX_SYSTEM_CONDITION = 1e12
"""Beyond this condition number of D + a I, double precision leaves fewer than four digits of the solution."""


def solve(precondition: Callable[[Tensor], Tensor], K: Tensor, R: Tensor, a: float) -> tuple[Tensor, Tensor]:
    """Factors of the update for one layer.

    Args:
        precondition: Takes (d_in, n) float64 keys to C^-1 K (`seqedit.solver.preconditioners`).
        K: Keys as columns, (d_in, n).
        R: Residuals as columns, (d_out, n).
        a: Relaxation of the equality constraint, >= 0.

    Returns:
        B = R (D + a I)^-1, (d_out, n), and A = (C^-1 K)^T, (n, d_in), both float64.

    Raises:
        NumericsError: if D + a I is singular to working precision; names the two closest keys.
    """
    K, R = K.double(), R.double()
    preconditioned = precondition(K)
    D = K.T @ preconditioned
    D = (D + D.T) / 2
    system = D + a * torch.eye(D.shape[0], dtype=D.dtype, device=D.device)
    eigenvalues = torch.linalg.eigvalsh(system)
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    if not low > 0 or high / low > MAX_SYSTEM_CONDITION:
        raise NumericsError(_singular(K, preconditioned, a))
    B = torch.cholesky_solve(R.T, torch.linalg.cholesky(system)).T
    if not bool(torch.isfinite(B).all()):
        raise NumericsError("the update is not finite; the keys or residuals hold values that are not finite")
    return B, preconditioned.T


def _singular(K: Tensor, preconditioned: Tensor, a: float) -> str:
    if K.shape[1] == 1:
        return "the request's key is zero; its subject has no token that carries a key"
    gram = K.T @ preconditioned
    scale = gram.diagonal().clamp_min(torch.finfo(gram.dtype).tiny).sqrt()
    cosine = (gram / scale.outer(scale)).fill_diagonal_(-1)
    i, j = divmod(int(cosine.argmax()), cosine.shape[1])
    first, second = min(i, j), max(i, j)
    return (
        f"the keys of the batch are linearly dependent (closest: requests {first} and {second}; the same subject?), "
        f"so the equality constraint cannot be met with a = {a:g}; edit them in two batches or relax it, "
        "e.g. --set a=0.1"
    )
