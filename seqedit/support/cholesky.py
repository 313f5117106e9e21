"""Cholesky factors in place, with errors that name the system and say what to do."""

from __future__ import annotations

import torch
from torch import Tensor

from seqedit.errors import NumericsError

_ADVICE = "use more text or a larger shrinkage (e.g. --set shrinkage=0.05)"


def cholesky(C: Tensor, name: str = "C") -> Tensor:
    """Lower Cholesky factor of a second moment, (d_in, d_in) float64.

    Args:
        C: Symmetric (d_in, d_in), already weighted and shrunk.
        name: What to call it in an error.

    Raises:
        NumericsError: if C is not positive definite, or so close to it that solutions would be noise.
    """
    return cholesky_(C.to(torch.float64, copy=True), name)


def cholesky_(C: Tensor, name: str = "C") -> Tensor:
    """As `cholesky`, in the memory of a contiguous float64 ``C``: nothing of its size is allocated."""
    factor = factor_in_place(C)
    if factor is None:
        raise NumericsError(f"the second moment of {name} is not positive definite; {_ADVICE}")
    check_pivots(factor, name)
    return factor


def check_pivots(factor: Tensor, name: str) -> None:
    """Refuse a Cholesky factor of a system so near to singular that solutions would be noise.

    Raises:
        NumericsError: names the system.
    """
    pivots = factor.diagonal()
    if float((pivots.max() / pivots.min()) ** 2) > 1e14:
        raise NumericsError(f"the second moment of {name} is singular to working precision; {_ADVICE}")


def factor_in_place(C: Tensor) -> Tensor | None:
    """The lower Cholesky factor of a contiguous float64 matrix, in its memory; None if it is not positive definite.

    LAPACK factors columns in place, but torch copies what it is given, unless the result's memory is that of the
    argument. C is symmetric, so its rows are as good as its columns.
    """
    factor = C.mT
    info = torch.empty((), dtype=torch.int32, device=C.device)
    torch.linalg.cholesky_ex(factor, out=(factor, info))
    if int(info) != 0 or not bool(torch.isfinite(factor.diagonal()).all()):
        return None
    return factor


def factored_solve(factor: Tensor, K: Tensor) -> Tensor:
    """C^-1 K for a lower Cholesky factor of C; unlike `torch.cholesky_solve` it does not copy the factor."""
    first = torch.linalg.solve_triangular(factor, K, upper=False)
    return torch.linalg.solve_triangular(factor.mT, first, upper=True)
