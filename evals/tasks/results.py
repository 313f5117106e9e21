"""From lm-eval's samples to a task's result: what every metric noted of every document, and the metrics made of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.statistics.classification import WEIGHTED
from evals.statistics.document_values import encode
from evals.statistics.measures import Aggregation, aggregate, is_bypass, is_mean, name_of
from evals.statistics.outcomes import Outcome, TaskResult
from evals.tasks.aggregation import f1_weighted
from seqedit.errors import InputError

_LOG = logging.getLogger(__name__)


def aggregation_of(task: Any, metric: str) -> Aggregation:
    """How a task makes a metric of what it notes of the documents; as in lm-eval the mean where it does not say.

    Args:
        task: lm-eval's task object.
        metric: Name of the metric, or "metric,filter".
    """
    from lm_eval.api.metrics import mean

    name = metric.partition(",")[0]
    found: Aggregation = task.aggregation().get(name, f1_weighted if name == WEIGHTED else mean)
    return found


def metric_names(task: Any) -> set[str] | None:
    """The metrics that a task may have, before any document was scored; None where only its documents tell.

    Args:
        task: lm-eval's task object.
    """
    from lm_eval.api.task import ConfigurableTask

    if not isinstance(task, ConfigurableTask) or task.config.process_results is not None:
        return None
    if type(task).process_results is not ConfigurableTask.process_results:
        return None
    filters = [chosen.name for chosen in task._filters]
    names = {*task.aggregation(), WEIGHTED}
    return names | {f"{name},{chosen}" for name in names for chosen in filters}


def task_result(name: str, task: Any, samples: Sequence[Mapping[str, Any]], definition: str) -> TaskResult:
    """A task under one model.

    Args:
        name: The task's name.
        task: lm-eval's task object.
        samples: What lm-eval logged of every document, under every answer filter.
        definition: Digest of the task (`evals.tasks.definition`).

    Raises:
        InputError: no metric of the task has a value for these documents.
    """
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    by_filter = {
        chosen: sorted((s for s in samples if s["filter"] == chosen), key=lambda s: int(s["doc_id"]))
        for chosen in filters
    }
    first = by_filter[filters[0]]
    metrics: dict[str, float] = {}
    unpaired: dict[str, str] = {}
    lower: list[str] = []
    noted: list[dict[str, Any]] = [{} for _ in first]
    aggregations: dict[str, Aggregation] = {}
    for chosen, rows in by_filter.items():
        for metric in _metrics(task, rows):
            key = metric if chosen == filters[0] else f"{metric},{chosen}"
            aggregation = aggregation_of(task, metric)
            if is_bypass(aggregation):
                continue
            values = [_plain(row[metric], aggregation) for row in rows if metric in row["metrics"]]
            found, reason = _value(aggregation, values, len(rows))
            if reason is not None:
                unpaired[key] = reason
                _LOG.warning("task %r: %s %s: %s", name, key, "not kept" if found is None else "not paired", reason)
            if found is None:
                continue
            metrics[key], aggregations[key] = found, aggregation
            if task.higher_is_better().get(metric) is False:
                lower.append(key)
            if reason is None:
                for place, value in enumerate(values):
                    noted[place][key] = value
    if not metrics:
        reasons = "; ".join(f"{metric}: {why}" for metric, why in unpaired.items())
        raise InputError(f"task {name!r} has no metric with a value for its documents ({reasons})")
    outcomes = tuple(_outcome(task, row, values) for row, values in zip(first, noted, strict=True))
    labels = _labels(task, first, outcomes)
    return TaskResult(name, metrics, outcomes, tuple(lower), unpaired, definition, aggregations, labels)


def _labels(task: Any, samples: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> int | None:
    """Number of labels of a classification: where every document has the same choices, which then mean something."""
    if task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input:
        return None
    choices = list(task.doc_to_choice(samples[0]["doc"]))
    known = all(o.gold is not None and 0 <= o.gold < len(choices) for o in outcomes)  # a test split may hide them as -1
    return len(choices) if known and all(list(task.doc_to_choice(s["doc"])) == choices for s in samples) else None


def _metrics(task: Any, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics of the task's own list that any document has, in its order, then those that only documents name."""
    found = dict.fromkeys(metric for row in rows for metric in row["metrics"])
    return [m for m in task.aggregation() if m in found] + [m for m in found if m not in task.aggregation()]


def _value(aggregation: Aggregation, values: Sequence[Any], documents: int) -> tuple[float | None, str | None]:
    """The metric, or None, and why it is not kept or cannot be paired, or None."""
    if len(values) < documents:
        # Averages over other documents at every step could not be compared.
        return None, f"{documents - len(values)} of {documents} documents do not tell it"
    try:
        found = aggregate(aggregation, values)
    except TypeError as error:
        return None, str(error)
    if math.isnan(found):
        return None, f"{name_of(aggregation)} of what these documents note is not a number"
    try:
        encode(list(values))
    except TypeError as error:
        return found, f"what it notes of a document cannot be kept ({error})"
    return found, None


def _plain(value: Any, aggregation: Aggregation) -> Any:
    """NumPy's numbers as Python's, on their own and in pairs; numbers that are averaged as floats."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return tuple(part.item() if isinstance(part, np.generic) else part for part in value)
    return float(value) if isinstance(value, int) and is_mean(aggregation) else value


def _outcome(task: Any, sample: Mapping[str, Any], values: Mapping[str, Any]) -> Outcome:
    gold: int | None = None
    prediction: int | None = None
    likelihoods: tuple[float, ...] = ()
    text: str | None = None
    answers = sample["filtered_resps"]
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(sample["doc"])
        # A task may also ask for the choices without their context; those answers come after.
        likelihoods = tuple(float(answer[0]) for answer in answers[: len(choices)])
        prediction = max(range(len(likelihoods)), key=likelihoods.__getitem__)
        # Where the choices are contexts before one continuation, the right one is told by the text.
        target = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
        if isinstance(target, str):
            target = choices.index(target) if target in choices else None
        gold = target if isinstance(target, int) else None
    elif task.OUTPUT_TYPE == "loglikelihood":
        likelihoods = tuple(float(answer[0]) for answer in answers)
    elif task.OUTPUT_TYPE == "generate_until":
        text = str(answers[0])
    return Outcome(
        doc_id=int(sample["doc_id"]),
        doc_hash=sample["doc_hash"],
        gold=gold,
        prediction=prediction,
        correct=None if gold is None else prediction == gold,
        log_likelihoods=likelihoods,
        values=values,
        text=text,
    )
