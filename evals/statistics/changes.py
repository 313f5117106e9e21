"""How sure a measured change of a task is: paired intervals and tests against a baseline and the step before.

Both models answer the same documents, so their errors largely cancel: the interval of the *change* is much
narrower than two separate intervals would suggest. docs/reference/statistics.md says what the figures mean and how
well they are calibrated; intervals of scores and of samples of edits are in `evals.scores.intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.statistics.exchange import exchange_p_value
from evals.statistics.measures import Aggregation
from evals.statistics.outcomes import Outcome, TaskResult
from evals.statistics.pairing import matched, pair_outcomes
from evals.statistics.resampling import percentile_interval, resampled
from seqedit.errors import InputError

_OTHER_TASK = "that state was measured with another task: other documents, prompts, metrics or examples"


@dataclass(frozen=True)
class Change:
    """A task metric beside its value on the baseline.

    Attributes:
        value: The metric now.
        baseline: The metric of the baseline, on the same documents.
        change: value - baseline.
        ci_low, ci_high: Confidence interval of the change.
        p_value: Of "no true difference" in this very metric, two-sided (`evals.statistics.exchange`): for accuracy
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
    aggregation: Aggregation | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Change:
    """Change of a metric on the same documents, with a percentile bootstrap interval over documents.

    Args:
        metric: What it noted of a document is in the outcome's values; acc, f1 and mcc may follow from gold and
            prediction instead.
        baseline: Outcomes of the model that is compared with.
        outcomes: Outcomes of the edited model, for the same documents in any order.
        aggregation: How the task makes the metric of what it noted; without it numbers are averaged, and acc, f1 and
            mcc are those of two labels (mcc: of any number).
        seed: Seed of the resampling.
        resamples: How many resamples; fewer where the task's own aggregation has to be called for each
            (`fewer_resamples`).
        level: Coverage of the interval; `evals.statistics.sequential.look_level` for one of several looks.

    Raises:
        InputError: if the documents differ or there are none, or the metric cannot be told from the outcomes, or has
            no value for many of the resamples.
    """
    pairs = pair_outcomes(metric, baseline, outcomes, aggregation)
    if not pairs.quick:
        resamples = fewer_resamples(len(outcomes), resamples, level)
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


def fewer_resamples(documents: int, resamples: int, level: float) -> int:
    """How many resamples are drawn where each calls a task's own aggregation on all documents.

    1,000 of up to 200 documents, and in proportion fewer of more, but as many as put ten into each tail.
    """
    few = min(1_000, 200_000 // max(1, documents))
    return min(resamples, max(few, math.ceil(20 / (1 - level))))


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
        result: The task at this step; as `evals.tasks.tasks.evaluate_tasks` gave it, with the task's own aggregations.
        baseline: The task on the unedited model.
        previous: The task at the step before; without it the entry has no "previous_..." fields.
        seed: Seed of the resampling.
        resamples: How many resamples.
        level: Coverage of the intervals.

    Returns:
        {main metric: value, "metric": its name, "change", "ci_low", "ci_high", "p_value", "previous_change",
        "previous_ci_low", "previous_ci_high", "previous_p_value"} and, for every further metric m, {m: value} and
        the same fields as "m_change", ..., "m_previous_p_value"; weighted F1 ("f1_weighted") of a classification is
        one. Where a metric cannot be paired, "unpaired"
        ("m_unpaired", "previous_unpaired", ...) says why in place of these fields. "lower_is_better"
        ("m_lower_is_better") is true for a metric that damage raises, and missing for others.

    Raises:
        InputError: if the documents differ.
    """
    entry: dict[str, Any] = {}
    for metric, value in result.told.items():
        main = metric == result.main_metric
        prefix = "" if main else f"{metric}_"
        entry[metric] = value
        if main:
            entry["metric"] = metric
        if metric in result.lower_is_better:
            entry[f"{prefix}lower_is_better"] = True
        for kind, other in (("", baseline), ("previous_", previous)):
            if other is None:
                continue
            if None not in (result.definition, other.definition) and result.definition != other.definition:
                entry[f"{prefix}{kind}unpaired"] = _OTHER_TASK
                continue
            matched(other.outcomes, result.outcomes)
            try:
                change = _change(metric, result, other, seed=seed, resamples=resamples, level=level)
            except InputError as error:
                entry[f"{prefix}{kind}unpaired"] = str(error)
                continue
            entry[metric] = change.value
            found = asdict(change)
            entry |= {f"{prefix}{kind}{name}": found[name] for name in ("change", "ci_low", "ci_high", "p_value")}
    entry |= {f"{m}_unpaired": why for m, why in result.unpaired.items() if m not in result.told}
    return entry


def _change(metric: str, result: TaskResult, other: TaskResult, **options: Any) -> Change:
    """A change between results, checked against the values that they have.

    Raises:
        InputError: the metric cannot be paired; says why.
    """
    for side in (result, other):
        if metric in side.unpaired:
            raise InputError(side.unpaired[metric])
    aggregation = result.aggregations.get(metric)
    change = paired_change(metric, other.outcomes, result.outcomes, aggregation=aggregation, **options)
    if aggregation is not None:
        for found, known in ((change.value, result.told[metric]), (change.baseline, other.metrics.get(metric))):
            if known is not None and not math.isclose(found, known, rel_tol=1e-6, abs_tol=1e-9):
                raise InputError(
                    f"the documents' values give {found:.6g} for {metric}, the task gives {known:.6g}: they do not "
                    "determine it, or it depends on their order"
                )
    return change
