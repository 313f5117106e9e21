"""Confidence intervals of ES, PS, NS, S and their kin, in percent, over records that were all scored or sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from evals.scores.scores import METRICS, Scores, harmonic_mean
from evals.statistics.stratified import Interval, stratified_means

_IN_S = ("ES", "PS", "NS")


@dataclass(frozen=True)
class Estimate:
    """A score with its interval, in percent.

    Attributes:
        value: The score.
        ci_low, ci_high: Its confidence interval.
    """

    value: float
    ci_low: float
    ci_high: float

    def to_dict(self) -> dict[str, float]:
        """The estimate as JSON types."""
        return asdict(self)


def score_intervals(scores: Scores, *, level: float = 0.95) -> dict[str, Interval | None]:
    """Confidence intervals of `evals.scores.scores.METRICS` over records, in percent; None for a metric that is None.

    The records are understood as drawn from many of their kind: the interval says where the score of edits like
    these lies. How these very records score is known exactly.

    Args:
        scores: Scores of the records.
        level: Coverage of the intervals.
    """
    found = estimated_scores(scores, level=level)
    return {metric: None if e is None else (e.ci_low, e.ci_high) for metric, e in found.items()}


def estimated_scores(
    scores: Scores,
    strata: Sequence[int] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    level: float = 0.95,
    finite: bool = True,
) -> dict[str, Estimate | None]:
    """Every metric of `evals.scores.scores.METRICS` with its interval; None for one that no record tells.

    Args:
        scores: Scores of the sampled records.
        strata, sizes, finite: As for `evals.statistics.stratified.stratified_means`.
        level: Coverage of the intervals.
    """
    result: dict[str, Estimate | None] = dict.fromkeys((*METRICS, *scores.columns))
    for metric in (*METRICS, *scores.columns):
        names = _IN_S if metric == "S" else (metric,)
        means = stratified_means([scores.values(name) for name in names], strata, sizes, finite=finite)
        if means is None:
            continue
        value = harmonic_mean([float(mean) for mean in means.means])
        if metric == "S":
            low, high = means.harmonic_interval(level)
        else:
            value, (low, high) = float(means.means[0]), means.interval(0, level)
        if value is not None:
            result[metric] = Estimate(100 * value, 100 * low, 100 * high)
    return result
