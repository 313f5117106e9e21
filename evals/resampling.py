"""Bootstrap over documents or records by drawing counts instead of documents.

Documents with the same outcome are interchangeable, so resampling n documents with replacement is drawing the
counts of the distinct outcomes from a multinomial: 10,000 resamples of a binary task are 10,000 draws of at
most eight numbers, whatever n is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def distinct(outcomes: Sequence[Hashable]) -> tuple[list[Hashable], NDArray[np.int64]]:
    """Distinct outcomes in order of first appearance, and how often each occurs."""
    counts: dict[Hashable, int] = {}
    for outcome in outcomes:
        counts[outcome] = counts.get(outcome, 0) + 1
    return list(counts), np.fromiter(counts.values(), dtype=np.int64, count=len(counts))


def resampled_counts(counts: NDArray[np.int64], resamples: int, seed: int) -> Floats:
    """Counts of every distinct outcome in every resample, (resamples, outcomes)."""
    total = int(counts.sum())
    draws = np.random.default_rng(seed).multinomial(total, counts / total, size=resamples)
    return draws.astype(np.float64)


def percentile_interval(values: Floats, level: float) -> tuple[float, float]:
    """The central interval that holds a share ``level`` of the values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
