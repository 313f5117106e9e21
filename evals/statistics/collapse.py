"""Where gradual forgetting turns into catastrophic forgetting (Gupta et al. 2024, arXiv 2401.07453).

Scores of earlier edits are autocorrelated: the same records are scored at every step, and what an edit broke stays
broken. A test that takes the noise of the steps as independent therefore sees collapses in what is only wandering. Here
a fall over k steps is measured against a *random walk* with the series' own changes from step to step. Of all AR(1)
series with those changes, phi from 0 to 1, the random walk goes farthest in k steps: Var(y[t+k] - y[t]) is at most
k Var(y[t+1] - y[t]). So the level holds for every phi, near-unit roots included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Collapse:
    """Where gradual forgetting turns into catastrophic forgetting.

    Attributes:
        step: First step of the steep part, counted as the series is.
        low, high: Steps that the data cannot tell from it (likelihood ratio of the fitted bends, 95 % for noise that
            is independent from step to step).
        slope_before: Change per step before it.
        slope_after: Change per step within the steep part.
        drop: By how much the score falls within the steep part.
    """

    step: int
    low: int
    high: int
    slope_before: float
    slope_after: float
    drop: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


STEEPER = 3.0
"""In a collapse a score falls at least so many times faster than before it."""
LEVEL = 0.01
"""Chance of naming a collapse in a series that only wanders, over all places and lengths."""
FEWEST = 8
"""Measured steps below which nothing is said."""
_LONGEST = 12
"""A fall that takes more steps is gradual."""
_AROUND = 8
"""Measured steps before and after a fall that say what the score was before, and whether the fall lasts."""
_CHANGES = 4
"""Fewest changes from step to step that a scale is estimated from."""
_FINEST = 1.0
"""Scale in points below which changes are not taken for known: a constant series is no reason for certainty."""
_LENGTHS = 16
"""Tests that a place counts for. The lengths of a fall amount to 8 in simulated random walks; twice that, because
scores that touch 0 or 100 are quieter there."""
_UNEVEN = 1.5
"""By how much the mean square of nearby changes may exceed that of all before it is taken for larger noise."""


def find_collapse(series: Sequence[float | None], *, first: int = 1, min_drop: float = 10.0) -> Collapse | None:
    """The step at which a score's gradual decline turns into collapse.

    Every fall over 1 to 12 steps is compared with the changes from step to step before it, and with all those outside
    it: t = fall / (root mean square change x sqrt(steps)), with as many degrees of freedom as changes. Where changes
    nearby are much larger, they count instead. It is a collapse where

    - t is significant: `LEVEL` over all places and lengths (Bonferroni),
    - the score falls by at least ``min_drop``, and `STEEPER` times faster than over the eight steps before,
    - the fall lasts: the mean of the next eight steps has made up less than half of it, and the means of the eight
      steps before and after differ by more than three standard errors,
    - if it begins in the first four steps, where no slope before is known: it is over within four steps, and `STEEPER`
      times faster than what follows it, and larger than any other change.

    The first such fall counts. Its step is that of a line with two bends, fitted to it and to the steps around.

    Args:
        series: The score by step, e.g. S or ES of all earlier edits in percent, or a task's metric x 100; None (or a
            value that is not finite) where it was not measured.
        first: What the first step is counted as.
        min_drop: Smaller falls are none.

    Returns:
        None where the decline is gradual, or there are fewer than eight measured steps.
    """
    points = [(i, float(v)) for i, v in enumerate(series) if v is not None and np.isfinite(v)]
    if len(points) < FEWEST:
        return None
    x, y = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    p_values = _fall_p_values(x, y)
    level = LEVEL / (_LENGTHS * len(y))
    falls = [
        (int(start), int(end))
        for start, length in zip(*np.nonzero(p_values < level), strict=True)
        if _is_collapse(x, y, start, end := start + length, min_drop)
    ]
    if not falls:
        return None
    earliest = min(falls, key=lambda fall: (fall[1], fall[0]))
    # Longer and shorter pieces of one fall are all significant; the sharpest of those that meet it stands for them.
    start, end = min(
        (fall for fall in falls if fall[0] <= earliest[1] and fall[1] >= earliest[0]),
        key=lambda fall: p_values[fall[0], fall[1] - fall[0]],
    )
    return _located(x, y, start, end, first)


def _fall_p_values(x: Values, y: Values) -> Values:
    """p-value of the fall from every point over every length, (points, longest + 1); 1 where there is none."""
    from scipy.stats import t

    count = len(y)
    result = np.ones((count, _LONGEST + 1))
    squares = np.concatenate([[0.0], np.cumsum(np.diff(y) ** 2)])
    for length in range(1, min(_LONGEST, count - 1) + 1):
        start = np.arange(count - length)
        end = start + length
        steps = x[end] - x[start]
        fall = (y[start] - y[end]) / np.sqrt(steps)
        # Noise is not the same all along: a mean over few records jumps more than one over many, later on.
        near = np.maximum(start - _AROUND, 0), np.minimum(end + _AROUND, count - 1)
        just_before = _mean(squares[start] - squares[near[0]], start - near[0])
        just_after = _mean(squares[near[1]] - squares[end], near[1] - end)
        for changes, known, local in (
            (squares[start], start, just_before),
            (squares[-1] - squares[end] + squares[start], np.full(len(start), count - 1 - length),
             np.maximum(just_before, just_after)),
        ):  # fmt: skip
            enough = (known >= _CHANGES) & ((steps <= _LONGEST) | (length == 1))
            freedom = np.maximum(known, 1)
            scale = np.sqrt(np.maximum(np.maximum(_mean(changes, known), local / _UNEVEN), _FINEST**2))
            p_value = np.where(enough, t.sf(fall / scale, freedom), 1.0)
            result[start, length] = np.minimum(result[start, length], p_value)
    return result


def _mean(total: Values, count: npt.NDArray[np.int_]) -> Values:
    """Means of sums; 0 of nothing."""
    return total.clip(min=0) / np.maximum(count, 1)


def _is_collapse(x: Values, y: Values, start: int, end: int, min_drop: float) -> bool:
    """Whether a fall is large and sharp, and lasts."""
    drop = y[start] - y[end]
    before, after = y[max(0, start - _AROUND + 1) : start + 1], y[end : end + _AROUND]
    slope_before = _slope(x[max(0, start - _AROUND) : start + 1], y[max(0, start - _AROUND) : start + 1])
    gentle = max(-slope_before, 0.0)
    if start < _CHANGES:
        # Hardly anything is known of the slope before: only a fall that is abrupt on its other side too can be one.
        changes = np.abs(np.diff(y))
        others = np.concatenate([changes[:start], changes[end:]])
        if end - start > _CHANGES or drop < STEEPER * others.max(initial=0.0):
            return False
        gentle = max(gentle, -_slope(x[end : end + _CHANGES + 1], y[end : end + _CHANGES + 1]))
    sharp = drop / (x[end] - x[start]) >= STEEPER * gentle
    if drop < min_drop or not sharp or after.mean() > y[start] - drop / 2:
        return False
    variance = sum(part.var(ddof=1) / len(part) for part in (before, after) if len(part) > 2)
    return bool(before.mean() - after.mean() > 3 * np.sqrt(variance))


def _slope(x: Values, y: Values) -> float:
    """Least-squares slope; 0 for a single point."""
    centred = x - x.mean()
    square = float(centred @ centred)
    return float(centred @ y) / square if square else 0.0


def _located(x: Values, y: Values, start: int, end: int, first: int) -> Collapse:
    """The fall's bends by least squares: a line before, a steep one, a line after, which meet."""
    low_end, high_end = max(0, start - _AROUND), min(len(y), end + _AROUND + 1)
    xs, ys = x[low_end:high_end], y[low_end:high_end]
    errors: dict[int, float] = {}
    fits: dict[int, tuple[float, Values, int]] = {}
    for upper in range(max(0, start - 4), min(end, start + 5)):
        for lower in range(max(upper + 1, end - 6), min(len(y), end + 7)):
            solution, error = _bent(xs, ys, x[upper], x[lower])
            steep = solution[1] + solution[2]
            if steep < 0 and steep <= solution[1] and error < errors.get(upper, np.inf):
                errors[upper], fits[upper] = error, (error, solution, lower)
    if not errors:  # the steep part is steeper by its ends, if not by any fit
        drop = float(y[start] - y[end])
        step = int(x[start]) + 1 + first
        return Collapse(step, step, step, 0.0, -drop / float(x[end] - x[start]), drop)
    best = min(errors, key=lambda upper: errors[upper])
    error, solution, lower = fits[best]
    noise = _FINEST**2 / 9
    likely = [u for u, e in errors.items() if e + noise <= (error + noise) * np.exp(3.84 / len(xs))]
    before, steep = float(solution[1]), float(solution[1] + solution[2])
    step, low, high = (int(x[upper]) + 1 + first for upper in (best, min(likely), max(likely)))
    return Collapse(step, low, high, before, steep, -steep * float(x[lower] - x[best]))


def _bent(xs: Values, ys: Values, upper: float, lower: float) -> tuple[Values, float]:
    """Coefficients (level, slope, change of slope at the bends) and squared error of a line with two bends."""
    moved = xs - upper
    design = np.stack([np.ones_like(xs), moved, moved.clip(min=0), (xs - lower).clip(min=0)], axis=1)
    # Without a point before the first bend there is no slope before it, after the last none after.
    solution, *_ = np.linalg.lstsq(design, ys, rcond=None)
    return solution, float(((ys - design @ solution) ** 2).sum())
