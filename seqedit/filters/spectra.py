"""Leading singular vectors of a matrix from the eigenvectors of its smaller Gram matrix.

That is twenty to fifty times as fast as a singular value decomposition on a CPU, and as good for what is taken here:
squaring costs digits of the small singular values alone.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dominant(matrix: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    """The first k left and right singular vectors, k the smallest with more than this share of the squared values.

    Args:
        matrix: (m, n) float64.
        energy: The share, between 0 and 1.

    Returns:
        (m, k) and (n, k) with orthonormal columns that span what the singular vectors span.
    """
    squares, vectors = _gram(matrix)
    shares = squares.cumsum(0) / squares.sum()
    nonzero = int((squares > squares[0] * torch.finfo(squares.dtype).eps).sum())
    k = min(int((shares <= energy).sum()) + 1, max(nonzero, 1))
    one = vectors[:, :k].clone()  # a slice would keep all
    wide = matrix.shape[0] <= matrix.shape[1]
    other = torch.linalg.qr((matrix.T if wide else matrix) @ one).Q
    return (one, other) if wide else (other, one)


def above(matrix: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values above a floor, largest first, with their (m, k) left and (n, k) right vectors."""
    squares, vectors = _gram(matrix)
    values = squares.sqrt()
    over = values > floor
    values, one = values[over], vectors[:, over]
    wide = matrix.shape[0] <= matrix.shape[1]
    other = ((matrix.T if wide else matrix) @ one) / values
    return (one, values, other) if wide else (other, values, one)


def largest(matrix: Tensor) -> float:
    """The largest singular value."""
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return float(torch.linalg.eigvalsh(small @ small.T)[-1].clamp_min(0).sqrt())


def _gram(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values, largest first, and the singular vectors of the smaller side."""
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    squares, vectors = torch.linalg.eigh(small @ small.T)
    return squares.flip(0).clamp_min(0), vectors.flip(1)
