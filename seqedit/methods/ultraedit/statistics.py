"""Means and variances of a projection's inputs and output gradients, over all batches in force.

Each batch's statistics are stored with its adapter, as a matrix of three rows: how many rows were seen, their mean, and
the sum of their squared deviations from it. Those of several batches follow exactly (Chan et al. 1979), so the
statistics of a state are derived from the adapters that are in force there: nothing is carried along, and a batch that
is reverted has never been counted.

The public code adds rows * (their variance with rows - 1 in the denominator), which makes its deviations depend on how
a batch is cut into passes, and undefined for a pass of one row. Here they are those of all rows together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def statistics_of(rows: Tensor) -> Tensor:
    """(3, d) float32 statistics of (T, d) rows."""
    rows = rows.double()
    mean = rows.mean(dim=0)
    squares = (rows - mean).square().sum(dim=0)
    return torch.stack([torch.full_like(mean, len(rows)), mean, squares]).float()


def combined(parts: Sequence[Tensor]) -> Tensor:
    """(3, d) float64 statistics of all rows that some statistics are of, taken in order."""
    total = parts[0].double()
    for part in parts[1:]:
        other = part.to(total)
        counts = total[0] + other[0]
        step = other[1] - total[1]
        total = torch.stack([
            counts,
            total[1] + step * (other[0] / counts),
            total[2] + other[2] + step.square() * (total[0] * other[0] / counts),
        ])  # fmt: skip
    return total


def by_module(batches: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Module name -> statistics of all batches that have some of it, float32."""
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        for name, one in batch.items():
            found.setdefault(name, []).append(one)
    return {name: combined(parts).float() for name, parts in found.items()}


def normalised(rows: Tensor, statistics: Tensor) -> Tensor:
    """(T, d) float64: rows less the mean, over the standard deviation; zero where that is zero."""
    deviation = (statistics[2] / (statistics[0] - 1).clamp_min(1)).sqrt()
    centred = rows.double() - statistics[1]
    return torch.where(deviation > 0, centred / deviation.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
