"""How sure a measured change is: paired intervals for tasks, intervals for CounterFact scores.

Both models answer the same documents, so their errors largely cancel: the interval of the *change* is much
narrower than two separate intervals would suggest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evals.resampling import Floats, distinct, percentile_interval, resampled_counts
from evals.scores import METRICS as SCORE_METRICS
from evals.scores import Scores
from evals.task_metrics import METRICS
from evals.task_outcomes import Outcome, TaskResult
from seqedit.errors import InputError


@dataclass(frozen=True)
class Change:
    """A task metric beside its value on the baseline.

    Attributes:
        value: The metric now.
        baseline: The metric of the baseline, on the same documents.
        change: value - baseline.
        ci_low, ci_high: Confidence interval of the change.
        p_value: Exact McNemar test that both models err equally often; None where outcomes are not right or
            wrong. It is about errors also where the metric is F1 or mcc.
    """

    value: float
    baseline: float
    change: float
    ci_low: float
    ci_high: float
    p_value: float | None


def paired_change(
    metric: str,
    baseline: Sequence[Outcome],
    outcomes: Sequence[Outcome],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Change:
    """Change of a metric on the same documents, with a percentile bootstrap interval over documents.

    Args:
        metric: acc, f1 or mcc from gold and prediction; any other name is the mean of the outcomes' values.
        baseline: Outcomes of the unedited model.
        outcomes: Outcomes of the edited model, for the same documents in any order.
        seed: Seed of the resampling.
        resamples: How many resamples.
        level: Coverage of the interval.

    Raises:
        InputError: if the documents differ or there are none, or the metric cannot be told from the outcomes.
    """
    before, after = _matched(baseline, outcomes)
    classified = all(o.gold is not None and o.prediction is not None for o in (*before, *after))
    if metric in METRICS and classified:
        pairs = [(b.gold, b.prediction, a.prediction) for b, a in zip(before, after, strict=True)]
        kinds, counts = distinct(pairs)
        rows = np.array(kinds, dtype=np.int64)
        # F1 is about label 1, so there are at least two labels even if only label 0 occurs.
        labels = max(2, int(rows.max()) + 1)
    elif all(metric in o.values for o in (*before, *after)):
        kinds, counts = distinct([(b.values[metric], a.values[metric]) for b, a in zip(before, after, strict=True)])
        rows, labels = np.array(kinds, dtype=np.float64), 0
    else:
        raise InputError(f"metric {metric!r} cannot be told from these outcomes; known: {', '.join(METRICS)}")

    def both(weights: Floats) -> tuple[Floats, Floats]:
        if not labels:
            total = weights.sum(axis=-1)
            return weights @ rows[:, 0] / total, weights @ rows[:, 1] / total
        function = METRICS[metric]
        return (
            function(_confusion(weights, rows[:, 0], rows[:, 1], labels)),
            function(_confusion(weights, rows[:, 0], rows[:, 2], labels)),
        )

    old, new = both(counts[None, :].astype(np.float64))
    sampled_old, sampled_new = both(resampled_counts(counts, resamples, seed))
    low, high = percentile_interval(sampled_new - sampled_old, level)
    return Change(
        value=float(new[0]),
        baseline=float(old[0]),
        change=float(new[0] - old[0]),
        ci_low=low,
        ci_high=high,
        p_value=mcnemar(before, after) if classified else None,
    )


def task_changes(
    result: TaskResult, baseline: TaskResult, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> dict[str, Any]:
    """A task's entry in the summary of a step.

    Returns:
        {main metric: value, "metric": its name, "change", "ci_low", "ci_high", "p_value"} and, for every
        further metric m, {m: value, "m_change", "m_ci_low", "m_ci_high"}.
    """
    entry: dict[str, Any] = {}
    for metric in result.metrics:
        change = asdict(
            paired_change(metric, baseline.outcomes, result.outcomes, seed=seed, resamples=resamples, level=level)
        )
        value, _ = change.pop("value"), change.pop("baseline")
        if metric == result.main_metric:
            entry |= {metric: value, "metric": metric, **change}
        else:
            change.pop("p_value")
            entry |= {metric: value, **{f"{metric}_{name}": number for name, number in change.items()}}
    return entry


def mcnemar(baseline: Sequence[Outcome], outcomes: Sequence[Outcome]) -> float:
    """Two-sided exact McNemar p-value: are documents lost and gained equally likely?"""
    from scipy.stats import binomtest

    before, after = _matched(baseline, outcomes)
    lost = sum(bool(b.correct) and not a.correct for b, a in zip(before, after, strict=True))
    gained = sum(not b.correct and bool(a.correct) for b, a in zip(before, after, strict=True))
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def score_intervals(
    scores: Scores, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> dict[str, tuple[float, float] | None]:
    """Confidence intervals of `evals.scores.METRICS` over records, in percent.

    Wilson's interval where every record is all right or all wrong (it also holds at 0 and 100 %), else the
    bootstrap over records; S is resampled jointly from the three. None for a metric that is None.
    """
    result: dict[str, tuple[float, float] | None] = {}
    for metric in SCORE_METRICS:
        if scores[metric] is None:
            result[metric] = None
        elif metric == "S":
            result[metric] = _harmonic_interval(scores, seed, resamples, level)
        else:
            known = [value for value in scores.values(metric) if value is not None]
            if set(known) <= {0.0, 1.0}:
                low, high = wilson(sum(known), len(known), level)
            else:
                kinds, counts = distinct(known)
                weights = resampled_counts(counts, resamples, seed)
                means = weights @ np.array(kinds, dtype=np.float64) / counts.sum()
                low, high = percentile_interval(means, level)
            result[metric] = (100 * low, 100 * high)
    return result


def wilson(successes: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), between 0 and 1."""
    from scipy.stats import norm

    z = float(norm.ppf((1 + level) / 2))
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _harmonic_interval(scores: Scores, seed: int, resamples: int, level: float) -> tuple[float, float]:
    triples = list(zip(*(scores.values(metric) for metric in ("ES", "PS", "NS")), strict=True))
    kinds, counts = distinct(triples)
    values = np.array(kinds, dtype=np.float64)  # None becomes nan
    weights = resampled_counts(counts, resamples, seed)
    present = ~np.isnan(values)
    total = weights @ present
    # A resample may miss all records that tell a metric; it says nothing about S.
    usable = (total > 0).all(axis=1)
    means = (weights @ np.where(present, values, 0.0))[usable] / total[usable]
    positive = (means > 0).all(axis=1)
    harmonic = np.zeros(len(means))
    harmonic[positive] = 3 / (1 / means[positive]).sum(axis=1)
    low, high = percentile_interval(harmonic, level)
    return 100 * low, 100 * high


def _confusion(weights: Floats, true: Any, predicted: Any, labels: int) -> Floats:
    """Confusion counts (resamples, labels, labels) from counts of (true, predicted) pairs."""
    counts = np.zeros((len(weights), labels, labels))
    for column, (row, cell) in enumerate(zip(true, predicted, strict=True)):
        counts[:, row, cell] += weights[:, column]
    return counts


def _matched(baseline: Sequence[Outcome], outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Both lists in one order of documents."""
    before, after = ({(o.doc_id, o.doc_hash): o for o in side} for side in (baseline, outcomes))
    if not before or before.keys() != after.keys():
        raise InputError(
            f"a paired change needs the same documents on both sides: {len(before)} against {len(after)}, "
            f"{len(before.keys() & after.keys())} in common"
        )
    keys = sorted(before)
    return [before[key] for key in keys], [after[key] for key in keys]
