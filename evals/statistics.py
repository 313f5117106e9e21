"""How sure a measured change of a task is: paired intervals and tests against a baseline and the step before.

Both models answer the same documents, so their errors largely cancel: the interval of the *change* is much
narrower than two separate intervals would suggest. docs/statistics.md says what the figures mean and how well they
are calibrated; intervals of scores and of samples of edits are in `evals.share_intervals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.exchange_test import exchange_p_value
from evals.exchange_test import mcnemar as mcnemar
from evals.paired_outcomes import pair_outcomes
from evals.resampling import percentile_interval, resampled
from evals.share_intervals import score_intervals as score_intervals
from evals.stratified_means import wilson as wilson
from evals.task_outcomes import Outcome, TaskResult


@dataclass(frozen=True)
class Change:
    """A task metric beside its value on the baseline.

    Attributes:
        value: The metric now.
        baseline: The metric of the baseline, on the same documents.
        change: value - baseline.
        ci_low, ci_high: Confidence interval of the change.
        p_value: Of "no true difference" in this very metric, two-sided (`evals.exchange_test`): for accuracy
            McNemar's mid-p, for F1 and mcc the same idea with their own values.
    """

    value: float
    baseline: float
    change: float
    ci_low: float
    ci_high: float
    p_value: float


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
        baseline: Outcomes of the model that is compared with.
        outcomes: Outcomes of the edited model, for the same documents in any order.
        seed: Seed of the resampling.
        resamples: How many resamples.
        level: Coverage of the interval; `evals.sequential.look_level` for one of several looks.

    Raises:
        InputError: if the documents differ or there are none, or the metric cannot be told from the outcomes.
    """
    pairs = pair_outcomes(metric, baseline, outcomes)
    before, after = pairs.values()
    low, high = percentile_interval(resampled(pairs.change, pairs.counts, resamples, seed), level)
    return Change(
        value=after,
        baseline=before,
        change=after - before,
        ci_low=low,
        ci_high=high,
        p_value=exchange_p_value(pairs, seed=seed, draws=resamples),
    )


def task_changes(
    result: TaskResult,
    baseline: TaskResult,
    *,
    previous: TaskResult | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> dict[str, Any]:
    """A task's entry in the summary of a step.

    Args:
        result: The task at this step.
        baseline: The task on the unedited model.
        previous: The task at the step before; without it the entry has no "previous_..." fields.
        seed: Seed of the resampling.
        resamples: How many resamples.
        level: Coverage of the intervals.

    Returns:
        {main metric: value, "metric": its name, "change", "ci_low", "ci_high", "p_value", "previous_change",
        "previous_ci_low", "previous_ci_high", "previous_p_value"} and, for every further metric m, {m: value} and
        the same fields as "m_change", ..., "m_previous_p_value".

    Raises:
        InputError: if the documents differ, or a metric cannot be told from the outcomes.
    """
    entry: dict[str, Any] = {}
    for metric in result.metrics:
        main = metric == result.main_metric
        prefix = "" if main else f"{metric}_"
        for kind, other in (("", baseline), ("previous_", previous)):
            if other is None:
                continue
            change = asdict(
                paired_change(metric, other.outcomes, result.outcomes, seed=seed, resamples=resamples, level=level)
            )
            entry[metric] = change["value"]
            if main:
                entry["metric"] = metric
            entry |= {f"{prefix}{kind}{name}": change[name] for name in ("change", "ci_low", "ci_high", "p_value")}
    return entry
