"""Bootstrap over documents or records by drawing counts instead of documents.

Documents with the same outcome are interchangeable, so resampling n documents with replacement is drawing the
counts of the distinct outcomes from a multinomial: 10,000 resamples of a binary task are 10,000 draws of at
most eight numbers, whatever n is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from seqedit.errors import InputError

Floats = NDArray[np.float64]

DEFINED = 0.95
"""A metric must have a value for at least this share of the resamples; those without one are left out."""

_FEW = 64
_NUMBERS_AT_ONCE = 2_000_000


def resampled(statistic: Callable[[Floats], Floats], counts: NDArray[np.int64], resamples: int, seed: int) -> Floats:
    """A statistic of every bootstrap resample, (resamples,).

    Args:
        statistic: From counts (n, outcomes) to numbers (n,).
        counts: How often each distinct outcome occurs.
        resamples: How many resamples.
        seed: Seed of the drawing.
    """
    random = np.random.default_rng(seed)
    total = int(counts.sum())
    kinds = np.repeat(np.arange(len(counts)), counts)
    parts = []
    for rows in blocks(resamples, len(counts)):
        if len(counts) <= _FEW:
            drawn = random.multinomial(total, counts / total, size=rows)
        else:
            # A multinomial draws one binomial per outcome: slower than the documents themselves if most differ.
            drawn = np.empty((rows, len(counts)), dtype=np.int64)
            for row in drawn:
                row[:] = np.bincount(kinds[random.integers(0, total, total)], minlength=len(counts))
        parts.append(statistic(drawn.astype(np.float64)))
    return np.concatenate(parts)


def blocks(rows: int, columns: int) -> Iterator[int]:
    """Sizes of blocks that a table is made in, so that one block fits in memory with ease."""
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, columns))
    for start in range(0, rows, at_once):
        yield min(at_once, rows - start)


def percentile_interval(values: Floats, level: float) -> tuple[float, float]:
    """The central interval that holds a share ``level`` of the values.

    Raises:
        InputError: too few of the values are numbers (`DEFINED`).
    """
    known = ~np.isnan(values)
    if known.mean() < DEFINED:
        raise InputError(f"the metric has no value for {len(known) - int(known.sum())} of {len(known)} resamples")
    values = values[known]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
