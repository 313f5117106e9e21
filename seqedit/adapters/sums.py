"""One delta per module for a whole state: all active deltas concatenated, and truncated to a rank where asked.

Concatenating loses nothing: the factors of all adapters stand side by side, bit for bit as they are. Only where they
hold fewer directions than columns (the same keys edited twice) are they replaced by a shorter pair, whose product
differs by no more than rounding to float32 does. A truncation keeps the largest singular values (Eckart and Young
1936), computed from the factors through two thin QR decompositions, so no d_out x d_in matrix is formed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from seqedit.adapters.delta import Delta, Dense, LowRank
from seqedit.errors import InputError

NEGLIGIBLE = 2.0**-26
"""Share of a delta's Frobenius norm that may be left out as rounding; float32 itself rounds at 2^-24."""


class HasDeltas(Protocol):
    """What is needed of an adapter."""

    @property
    def deltas(self) -> Mapping[str, Delta]: ...


def concatenate(adapters: Iterable[HasDeltas]) -> dict[str, Delta]:
    """The sum of adapters, module by module.

    Args:
        adapters: In any order; one at a time is held besides the sum, and of the sum at most min(d_out, d_in) columns.

    Returns:
        Module name -> delta: low-rank where all its parts are and their ranks add up to at most min(d_out, d_in), else
        dense, rounded once from a double-precision sum.
    """
    sums: dict[str, _Sum] = {}
    for adapter in adapters:
        for name, delta in adapter.deltas.items():
            sums.setdefault(name, _Sum(delta.shape)).add(delta)
    return {name: sums[name].result() for name in sorted(sums)}


class _Sum:
    """The running sum of one module: factors while they are few, a matrix from there on."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.factors: list[LowRank] = []
        self.dense: Tensor | None = None

    def add(self, delta: Delta) -> None:
        if isinstance(delta, Dense):
            self._flush()
            self.dense = delta.dense() if self.dense is None else self.dense + delta.dense()
            return
        self.factors.append(delta)
        if sum(d.rank for d in self.factors) > min(self.shape):
            self._flush()

    def _flush(self) -> None:
        if self.factors:
            joined = _joined(self.factors).dense()
            self.dense = joined if self.dense is None else self.dense + joined
            self.factors = []

    def result(self) -> Delta:
        if self.dense is None:
            return compact(_joined(self.factors))
        self._flush()
        return Dense(self.dense.to(torch.float32))


def _joined(factors: list[LowRank]) -> LowRank:
    if len(factors) == 1:
        return factors[0]
    return LowRank(torch.cat([d.B for d in factors], dim=1), torch.cat([d.A for d in factors], dim=0))


def compact(delta: LowRank) -> LowRank:
    """The same product with as many columns as it has directions; the delta itself where it has no fewer."""
    u, values, vh = _singular(delta)
    # Edits that cancel leave only what double precision rounded, which has directions of its own.
    noise = 2.0**-48 * float(delta.B.double().norm() * delta.A.double().norm())
    rank = _rank_within(values, max(noise, NEGLIGIBLE * float(values.norm())))
    return delta if rank >= delta.rank else _leading(u, values, vh, rank)


def truncate(delta: Delta, rank: int) -> tuple[Delta, float]:
    """The nearest delta of a rank, in the Frobenius norm.

    Args:
        delta: What to truncate.
        rank: At most this rank.

    Returns:
        The truncated delta, and the norm of what was left out relative to the whole; the delta itself and 0.0 where
        its rank is no higher.

    Raises:
        InputError: the rank is not at least 1.
    """
    if rank < 1:
        raise InputError(f"rank must be at least 1, got {rank}")
    if rank >= min(delta.rank, *delta.shape):
        return delta, 0.0
    u, values, vh = _singular(delta)
    squares = values.square()
    whole = float(squares.sum())
    error = 0.0 if whole == 0 else (float(squares[rank:].sum()) / whole) ** 0.5
    return _leading(u, values, vh, rank), error


def _singular(delta: Delta) -> tuple[Tensor, Tensor, Tensor]:
    """U (d_out, k), singular values (k,) and V^T (k, d_in), double precision."""
    if isinstance(delta, Dense) or delta.rank > min(delta.shape):
        u, values, vh = torch.linalg.svd(delta.dense(), full_matrices=False)
        return u, values, vh
    left, right = torch.linalg.qr(delta.B.double()), torch.linalg.qr(delta.A.double().T)
    u, values, vh = torch.linalg.svd(left.R @ right.R.T)
    return left.Q @ u, values, vh @ right.Q.T


def _leading(u: Tensor, values: Tensor, vh: Tensor, rank: int) -> LowRank:
    b, a = u[:, :rank] * values[:rank], vh[:rank]
    return LowRank(b.to(torch.float32).contiguous(), a.to(torch.float32).contiguous())


def _rank_within(values: Tensor, remainder: float) -> int:
    """The smallest rank that leaves out at most this norm; at least 1."""
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()  # tails[r]: norm of what rank r leaves out
    return max(1, int((tails > remainder).sum()))
