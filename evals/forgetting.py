"""Forgetting: what later edits do to earlier ones.

F[t][i] is the score at step t of the edits made at step i, for every active i <= t; both count from 0 here.
A fact that a later batch edited again is superseded, not forgotten: the caller leaves it out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evals.scores import Scores
from seqedit.errors import InputError

Matrix = list[list[float | None]]
"""One row per step t, one column per step i; None where i is not active at t or was not measured."""


@dataclass(frozen=True)
class AgePoint:
    """Mean score of the edits that are ``age`` steps old.

    Attributes:
        age: Steps since the edits were made; 0 is right after.
        mean: Mean over the batches, in percent.
        count: How many batches were measured at that age.
        ci_low, ci_high: 95 % interval of the mean over batches (Student's t); None for a single batch.
    """

    age: int
    mean: float
    count: int
    ci_low: float | None
    ci_high: float | None

    def to_dict(self) -> dict[str, Any]:
        """The point as JSON types."""
        return asdict(self)


def batch_scores(
    scores: Scores,
    batches: Sequence[Sequence[int]],
    live: Sequence[Sequence[bool]] | None = None,
) -> list[Scores | None]:
    """Split scores of all records at one step into scores of each batch.

    Args:
        scores: Scores of the records of all batches so far, measured together.
        batches: For each batch the positions of its records in ``scores``.
        live: For each batch, which of its records still hold; a record that is superseded or reverted is
            False. Without it all count.

    Returns:
        Scores per batch; None for a batch without a live record.

    Raises:
        InputError: if ``live`` does not have the shape of ``batches``.
    """
    if live is not None and [len(b) for b in batches] != [len(mask) for mask in live]:
        raise InputError("live must say for every record of every batch whether it still holds")
    result: list[Scores | None] = []
    for index, batch in enumerate(batches):
        mask = [True] * len(batch) if live is None else live[index]
        kept = [position for position, keep in zip(batch, mask, strict=True) if keep]
        result.append(scores.subset(kept) if kept else None)
    return result


def earlier_scores(
    scores: Scores, batches: Sequence[Sequence[int]], live: Sequence[Sequence[bool]] | None = None
) -> Scores | None:
    """Scores of all live records but those of the last batch: what the newest edits left standing."""
    masks = [[True] * len(batch) for batch in batches] if live is None else live
    kept = [
        position
        for batch, mask in zip(batches[:-1], masks[:-1], strict=True)
        for position, keep in zip(batch, mask, strict=True)
        if keep
    ]
    return scores.subset(kept) if kept else None


def forgetting_row(scores: Sequence[Scores | None], metric: str = "ES") -> list[float | None]:
    """One row of the matrix: the metric of every batch at one step, in percent."""
    return [None if score is None else score[metric] for score in scores]


def forgetting_matrix(rows: Sequence[Sequence[float | None] | Mapping[int, float | None]]) -> Matrix:
    """The square matrix from its rows, which may be short or name only the measured batches.

    Raises:
        InputError: if a row has a value for a batch of a later step.
    """
    size = len(rows)
    matrix: Matrix = [[None] * size for _ in range(size)]
    for step, row in enumerate(rows):
        for batch, value in row.items() if isinstance(row, Mapping) else enumerate(row):
            if value is not None and batch > step:
                raise InputError(f"step {step} has a score for the batch of the later step {batch}")
            if batch < size:
                matrix[step][batch] = value
    return matrix


def forgetting_curve(matrix: Sequence[Sequence[float | None]], level: float = 0.95) -> list[AgePoint]:
    """Mean score by age: at age a over all i of F[i + a][i]; ages not measured are left out."""
    curve = []
    for age in range(len(matrix)):
        values = [value for step in range(age, len(matrix)) if (value := matrix[step][step - age]) is not None]
        if values:
            curve.append(_age_point(age, values, level))
    return curve


def retention(matrix: Sequence[Sequence[float | None]]) -> float | None:
    """Share of what the edits achieved when they were made that still holds at the last step.

    Sum over i of F[T][i] over sum of F[i][i], over earlier batches measured at both times; 1 is no
    forgetting. None if there is no such batch, or nothing was achieved.
    """
    last = len(matrix) - 1
    then_now = [
        (then, now)
        for batch in range(max(last, 0))
        if (then := matrix[batch][batch]) is not None and (now := matrix[last][batch]) is not None
    ]
    achieved = sum(then for then, _ in then_now)
    return sum(now for _, now in then_now) / achieved if achieved else None


def _age_point(age: int, values: Sequence[float], level: float) -> AgePoint:
    from scipy.stats import t

    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return AgePoint(age, mean, count, None, None)
    error = (sum((value - mean) ** 2 for value in values) / (count - 1) / count) ** 0.5
    half = float(t.ppf((1 + level) / 2, count - 1)) * error
    return AgePoint(age, mean, count, max(0.0, mean - half), min(100.0, mean + half))


def half_life(curve: Sequence[AgePoint]) -> float | None:
    """Age, in steps, at which the mean score has fallen to half of what it was right after the edits.

    Args:
        curve: As `forgetting_curve` gives it.

    Returns:
        Interpolated between the two ages around it; None where the curve does not fall that far, or starts at 0.
    """
    if not curve or curve[0].mean <= 0:
        return None
    half = curve[0].mean / 2
    for before, after in itertools.pairwise(curve):
        if after.mean <= half:
            share = (before.mean - half) / (before.mean - after.mean)
            return before.age + share * (after.age - before.age)
    return None


@dataclass(frozen=True)
class Collapse:
    """Where gradual forgetting turns into catastrophic forgetting (Gupta et al. 2024, arXiv 2401.07453).

    Attributes:
        step: First step of the steep part, counted as the series is.
        low, high: Steps that the data cannot tell from it (95 %, likelihood ratio).
        slope_before: Change per step before it.
        slope_after: Change per step from it on, until the score has reached its floor.
        drop: By how much the score falls from there to the end.
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
"""The steep part falls at least so many times faster than what precedes it."""
_MIN_DROP = 10.0


def find_collapse(series: Sequence[float | None], *, first: int = 1, min_drop: float = _MIN_DROP) -> Collapse | None:
    """The step at which a score's gradual decline turns into collapse.

    Fitted are a straight line, and broken lines that bend once, down, at every step, and then stay on a floor or not;
    least squares, compared by BIC. A collapse is reported where a broken line is much better (BIC by more than 10),
    falls at least `STEEPER` times faster after the bend than before it, and loses at least ``min_drop``.

    Args:
        series: The score by step, e.g. S or ES of all earlier edits in percent, or a task's metric x 100; None where it
            was not measured.
        first: What the first step is counted as.
        min_drop: Smaller falls are no collapse.

    Returns:
        None where the decline is gradual, or there are fewer than eight measured steps.
    """
    points = [(i, float(v)) for i, v in enumerate(series) if v is not None]
    if len(points) < 8:
        return None
    x = np.array([p[0] for p in points], dtype=np.float64)
    y = np.array([p[1] for p in points], dtype=np.float64)
    straight = _fit(y, [np.ones_like(x), x])
    best: tuple[float, int, int | None] | None = None
    errors: dict[int, float] = {}
    for bend in range(2, len(x) - 2):
        hinge = np.maximum(x - x[bend], 0.0)
        for floor in (None, *range(bend + 2, len(x))):
            # From the floor on the line is level: the falling part ends there.
            part = hinge if floor is None else np.minimum(hinge, x[floor] - x[bend])
            slope = x if floor is None else np.minimum(x, x[floor])
            error = _fit(y, [np.ones_like(x), slope, part])
            errors[bend] = min(error, errors.get(bend, np.inf))
            if best is None or error < best[0]:
                best = error, bend, floor
    assert best is not None
    error, bend, floor = best
    count = len(x)
    # A floor that is as exact as the numbers are written is no reason for an infinite likelihood.
    noise = max(float(np.var(y)) * 1e-6, 1e-6) * count
    gain = count * np.log((straight + noise) / (error + noise)) - (1 if floor is None else 2) * np.log(count)
    end = len(x) - 1 if floor is None else floor
    before = (y[bend] - y[0]) / (x[bend] - x[0])
    after = (y[end] - y[bend]) / (x[end] - x[bend])
    drop = float(y[bend] - y[-1])
    if gain <= 10 or after >= 0 or after > STEEPER * min(before, 0.0) or drop < min_drop:
        return None
    limit = (error + noise) * np.exp(3.84 / count)
    likely = [b for b, e in errors.items() if e + noise <= limit]
    at = [int(x[b]) + 1 + first for b in (bend, min(likely), max(likely))]
    return Collapse(at[0], at[1], at[2], float(before), float(after), drop)


def _fit(y: Any, columns: Sequence[Any]) -> float:
    """Residual sum of squares of a least-squares fit."""
    design = np.stack(columns, axis=1)
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    return float(((y - design @ solution) ** 2).sum())
