"""Running sums of k k^T over many forward passes, one per module, on the module's device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

TOKENS = 4096
"""Keys that are collected before they are multiplied: with fewer, reading and writing the d_in^2 sums costs more."""
LEAF = 128
"""Columns of a diagonal block that is not split further, at least."""


class MomentSum:
    """The sum of k k^T of one module, of which only the upper block triangle is computed.

    Keys are collected in a buffer, multiplied in float32 (float64 if they are float64) and summed in float64. Staging
    and committing are two steps, so that a forward pass that fails halfway leaves nothing behind. After the first
    `stage` nothing large is allocated any more; held are d_in^2 float64 sums, d_in^2 / 4 float32 and the buffer.

    Args:
        capacity: Most tokens that one pass stages.
        key_dtype: Round keys to this type first; None keeps the model's.
    """

    def __init__(self, capacity: int, key_dtype: torch.dtype | None = None) -> None:
        self.capacity = max(capacity, TOKENS)
        self.key_dtype = key_dtype
        self.filled = self.staged = 0
        self._buffer: Tensor | None = None
        self._sums: Tensor
        self._scratch: Tensor
        self._exact: torch.dtype

    def stage(self, keys: Tensor) -> None:
        """Take the keys of a pass, (n, d_in), n at most `room`; they count once they are committed."""
        if self._buffer is None:
            self._allocate(keys)
        assert self._buffer is not None
        if self.key_dtype is not None:
            keys = keys.to(self.key_dtype)
        self.staged = len(keys)
        self._buffer[self.filled : self.filled + self.staged].copy_(keys)

    def commit(self) -> None:
        """Count what was staged."""
        self.filled += self.staged
        self.staged = 0

    @property
    def room(self) -> int:
        """How many keys can be staged before the buffer has to be flushed."""
        return self.capacity - self.filled

    def flush(self) -> None:
        """Add the buffer's keys to the sums."""
        if self._buffer is None or self.filled == 0:
            return
        keys = self._buffer[: self.filled]
        with reduced_products(keys.device, self._exact):
            for rows, columns in blocks(keys.shape[1]):
                first, second = keys[:, rows], keys[:, columns]
                product = self._scratch[: first.shape[1] * second.shape[1]].view(first.shape[1], second.shape[1])
                torch.mm(first.T, second, out=product)
                self._sums[rows, columns] += product.to(self._sums.device)
        self.filled = 0

    def total(self) -> Tensor | None:
        """The whole sum, (d_in, d_in) float64, after which nothing can be added; None if nothing was staged."""
        if self._buffer is None:
            return None
        self.flush()
        self._buffer = None
        for rows, columns in blocks(len(self._sums)):
            upper = self._sums[rows, columns]
            if rows == columns:  # both triangles were computed, with different roundings
                upper.copy_(upper.triu() + upper.triu(1).T)
            else:
                self._sums[columns, rows] = upper.T
        return self._sums

    def _allocate(self, keys: Tensor) -> None:
        d_in, device = keys.shape[1], keys.device
        wide = torch.float64 if keys.dtype == torch.float64 else torch.float32
        self._exact = self.key_dtype or keys.dtype
        # Apple's GPUs have no float64.
        self._sums = torch.zeros(d_in, d_in, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
        largest = max((r.stop - r.start) * (c.stop - c.start) for r, c in blocks(d_in))
        self._scratch = torch.empty(largest, dtype=wide, device=device)
        # Last: that it is there says that the others are.
        self._buffer = torch.empty(self.capacity, d_in, dtype=wide, device=device)


def blocks(size: int) -> Iterator[tuple[slice, slice]]:
    """Blocks that cover the upper triangle of a square, halving it again and again.

    The largest are half as wide as the square, which fast matrix products want; only small ones on the diagonal
    compute both of their triangles.
    """
    leaf = max(LEAF, size // 16)

    def split(start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        if stop - start <= leaf:
            yield slice(start, stop), slice(start, stop)
            return
        middle = start + -(-(stop - start) // 64) * 32  # half of it, in whole cache lines
        yield from split(start, middle)
        yield from split(middle, stop)
        yield slice(start, middle), slice(middle, stop)

    yield from split(0, size)


@contextmanager
def reduced_products(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """On CUDA, lets float32 products of numbers that came from a 16-bit type use the units for TF32.

    Nothing is lost: both 16-bit types fit the 10 bits after the point of TF32, and products are accumulated in float32.
    The setting is put back afterwards. CPUs are left alone: oneDNN's setting of that name (``bf16``) is no faster on
    those without AMX, and its sums there have five times the error.
    """
    backend: Any = torch.backends.cuda.matmul
    # torch before 2.9 has no such switch for products alone.
    exact = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    if not exact or not hasattr(backend, "fp32_precision"):
        yield
        return
    before = backend.fp32_precision
    backend.fp32_precision = "tf32"
    try:
        yield
    finally:
        backend.fp32_precision = before
