"""How much of a candidate's key lies in the row space of an update: the fingerprint that a closed form leaves.

An update Delta = R K^T (C + K K^T)^-1 has the rows of K^T C^-1 (by the matrix inversion lemma), whatever the weight of
C0 in C = weight C0 is. So the row space of Delta C0 is that of K^T, the edited keys (arXiv 2602.10134, section 4): a
key that was edited lies in it, another does not. Lengths are taken in the metric of C0^-1, in which the keys of plain
text point everywhere alike; without second moments C0 is the identity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqedit.adapters.delta import Delta, Dense, LowRank

_RANK = 1e-6
"""Singular values of a delta below this share of the largest are rounding."""


def row_factor(delta: Delta) -> Tensor:
    """Orthonormal rows that span a delta's row space.

    Returns:
        (r, d_in) float64; r is the numerical rank.
    """
    if isinstance(delta, LowRank):
        # B = Q T: the rows of T A span what those of B A do, and are few.
        rows = torch.linalg.qr(delta.B.double(), mode="r").R @ delta.A.double()
    else:
        assert isinstance(delta, Dense)
        rows = delta.delta.double()
    _, sizes, right = torch.linalg.svd(rows, full_matrices=False)
    return right[sizes > _RANK * sizes.max()]


def shares(
    keys: Tensor, rows: Tensor, C0: Tensor | None = None, solve: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """The share of each key's squared length that lies in the row space of Delta C0.

    With A the rows of Delta, P the projector onto the columns of C0 A^T that is orthogonal in the metric of C0^-1:
    ``|P k|^2 / |k|^2 = (A k)^T (A C0 A^T)^-1 (A k) / (k^T C0^-1 k)``.

    Args:
        keys: (n, d_in) float64.
        rows: (r, d_in) float64, linearly independent.
        C0: (d_in, d_in) float64 second moment; None for the identity.
        solve: Takes (d_in, n) keys to C0^-1 K; needed with ``C0``.

    Returns:
        (n,) float64, 0 to 1; 0 for a key of no length. A random key has r / d_in in the mean.
    """
    inside = rows @ keys.T  # (r, n)
    gram = rows @ rows.T if C0 is None else rows @ C0 @ rows.T
    lengths = (keys.T * (keys.T if solve is None else solve(keys.T))).sum(0)
    found = (inside * torch.linalg.solve(gram, inside)).sum(0) / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    return found.clamp(0, 1)
