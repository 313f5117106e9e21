"""Forgetting: what later edits do to earlier ones.

F[t][i] is the score at step t of the edits made at step i, for every active i <= t; both count from 0 here.
A fact that a later batch edited again is superseded, not forgotten: the caller leaves it out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.scores.scores import Scores
from evals.statistics.collapse import Collapse as Collapse
from evals.statistics.collapse import find_collapse as find_collapse
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


def forgetting_curve(
    matrix: Sequence[Sequence[float | None]], level: float = 0.95, *, steps: Sequence[int] | None = None
) -> list[AgePoint]:
    """Mean score by age: at age a over all i of ``F[i + a][i]``; ages not measured are left out.

    Args:
        matrix: As `forgetting_matrix` gives it.
        level: Coverage of the intervals.
        steps: Steps (from 0) whose batches are still in force. They alone are batches and they alone count as age: a
            revert is no edit, and a batch that was taken back neither has a score nor makes the others older. None
            for all.
    """
    if steps is not None:
        matrix = [[matrix[t][i] for i in steps] for t in steps]
    curve = []
    for age in range(len(matrix)):
        values = [value for step in range(age, len(matrix)) if (value := matrix[step][step - age]) is not None]
        if values:
            curve.append(_age_point(age, values, level))
    return curve


def retention(matrix: Sequence[Sequence[float | None]]) -> float | None:
    """Share of what the edits achieved when they were made that still holds at the last step.

    Sum over i of ``F[T][i]`` over sum of ``F[i][i]``, over earlier batches measured at both times; 1 is no
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
