"""Weight deltas of one module, low-rank or dense, in the canonical orientation (rows are outputs)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither infinities nor NaN."""
    # Least and greatest value show both, without a mask of the tensor's size; it takes a small part of the time.
    return tensor.numel() == 0 or all(bool(torch.isfinite(value)) for value in tensor.aminmax())


def is_identity(matrix: Tensor) -> bool:
    """Whether a matrix is the float32 identity, bit for bit."""
    rows, columns = matrix.shape
    if rows != columns or matrix.dtype != torch.float32:
        return False
    bits = matrix.contiguous().view(torch.int32)
    one = int(torch.ones(1).view(torch.int32))
    return int(bits.count_nonzero()) == rows and bool((bits.diagonal() == one).all())


@dataclass(frozen=True)
class LowRank:
    """``Delta = B @ A``, exactly LoRA's two factors.

    Attributes:
        B: (d_out, n) float32.
        A: (n, d_in) float32.
    """

    B: Tensor
    A: Tensor

    @property
    def rank(self) -> int:
        """Inner dimension n of the product."""
        return int(self.A.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return int(self.B.shape[0]), int(self.A.shape[1])

    def dense(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The product, (d_out, d_in), computed in ``dtype``."""
        return self.B.to(dtype) @ self.A.to(dtype)

    @classmethod
    def from_factors(cls, B: Tensor, A: Tensor) -> LowRank:
        """Round double-precision factors to float32 without losing accuracy of their product.

        With an ill-conditioned D the closed form's own factors are large and cancel in the product, so rounding
        them to float32 would cost digits of Delta. A thin QR of A^T moves everything into B: Delta = (B R^T) Q^T
        with orthonormal rows of A, and rounding costs 6e-8 of Delta whatever the conditioning was.

        Args:
            B: (d_out, n) float64.
            A: (n, d_in) float64.
        """
        if A.shape[0] <= A.shape[1]:
            q, r = torch.linalg.qr(A.T)
            B, A = B @ r.T, q.T
        return cls(B.to(torch.float32).contiguous().cpu(), A.to(torch.float32).contiguous().cpu())


@dataclass(frozen=True)
class Dense:
    """A delta without low rank.

    Attributes:
        delta: (d_out, d_in) float32.
    """

    delta: Tensor

    @property
    def rank(self) -> int:
        """Rank of the LoRA that stores it: B = I, so d_out."""
        return int(self.delta.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return int(self.delta.shape[0]), int(self.delta.shape[1])

    def dense(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The delta itself, (d_out, d_in), in ``dtype``."""
        return self.delta.to(dtype)


Delta = LowRank | Dense
