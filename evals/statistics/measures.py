"""From what a metric noted of every document to the metric's value, for one model and for many resamples at once.

lm-eval calls this the metric's *aggregation*, and a task may bring its own. The common ones follow from counts by a
formula (`Formula`) and cost microseconds; any other is called, as it is, on the documents of each resample.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evals.statistics.classification import METRICS
from evals.statistics.resampling import Floats

Aggregation = Callable[[Sequence[Any]], Any]
"""What a metric noted of every document -> the metric."""

Measure = Callable[[Floats], Floats]
"""Counts (n, kinds) of documents of every kind -> the metric (n,)."""

LARGEST = 1e300
"""Stands for infinity, which JSON has not: the perplexity of a broken model."""

_STOCK = "lm_eval.api.metrics."
_MEANS = {f"{_STOCK}mean", f"{_STOCK}nanmean"}
_PAIRS = {
    f"{_STOCK}matthews_corrcoef": "mcc",
    "evals.tasks.aggregation.mcc": "mcc",
    f"{_STOCK}f1_score": "f1",
    "evals.tasks.aggregation.f1": "f1",
    "evals.tasks.aggregation.f1_weighted": "f1_weighted",
}


def name_of(aggregation: Aggregation) -> str:
    """Module and name of a function."""
    return f"{getattr(aggregation, '__module__', '?')}.{getattr(aggregation, '__qualname__', '?')}"


def is_mean(aggregation: Aggregation) -> bool:
    """Whether it is lm-eval's mean, with or without leaving out what is not a number."""
    return name_of(aggregation) in _MEANS


def is_bypass(aggregation: Aggregation) -> bool:
    """Whether lm-eval only goes through the motions, for the logs of a task."""
    return name_of(aggregation) == f"{_STOCK}bypass_agg"


def aggregate(aggregation: Aggregation, values: Sequence[Any]) -> float:
    """The metric of some documents; NaN where it has no value, `LARGEST` for infinity.

    Raises:
        TypeError: the aggregation gives something else than a number.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # e.g. F1 without a positive prediction, which simply is 0
            found = aggregation(values)
    except OverflowError:  # lm-eval's perplexity of a broken model
        return LARGEST
    except (ValueError, ZeroDivisionError):  # e.g. a correlation of constants
        return math.nan
    if isinstance(found, bool) or not isinstance(found, int | float | np.number):
        raise TypeError(f"{name_of(aggregation)} gives a {type(found).__name__}, not a number")
    return float(np.clip(float(found), -LARGEST, LARGEST))


def measure_of(metric: str, values: Sequence[Any], aggregation: Aggregation | None) -> tuple[Measure, bool] | None:
    """A metric as a function of how many documents there are of every kind.

    Args:
        metric: Its name.
        values: What it notes of a document of every kind.
        aggregation: The task's own; None where it is not known: then numbers are averaged, and acc, f1 and mcc are
            those of pairs of right and chosen answer.

    Returns:
        The function, and whether it is quick; None where the aggregation is not known and the values do not tell it.
    """
    name = None if aggregation is None else name_of(aggregation)
    numbers = all(isinstance(v, int | float | np.number) for v in values)
    if numbers and (name is None or name in _MEANS):
        return _mean(np.array(values, dtype=np.float64), leave_out_nan=name == f"{_STOCK}nanmean"), True
    formula = metric if name is None and metric in METRICS else _PAIRS.get(name or "")
    # F1 is about label 1; of more labels than two lm-eval's own has none.
    if formula is not None and _labels(values, 2 if formula == "f1" else None):
        return _confusion(METRICS[formula], np.array(values, dtype=np.int64)), True
    return None if aggregation is None else (_called(aggregation, values), False)


def _labels(values: Sequence[Any], number: int | None) -> bool:
    """Whether all are pairs of labels, of so many at most."""
    return all(
        isinstance(v, tuple | list)
        and len(v) == 2
        and all(isinstance(x, int | np.integer) and x >= 0 and (number is None or x < number) for x in v)
        for v in values
    )


def _mean(values: Floats, leave_out_nan: bool) -> Measure:
    told = ~np.isnan(values) if leave_out_nan else np.ones(len(values), dtype=bool)

    def measure(counts: Floats) -> Floats:
        kept = counts[:, told]
        total = kept.sum(axis=-1)
        result: Floats = np.divide(kept @ values[told], total, out=np.full(len(counts), np.nan), where=total > 0)
        return result

    return measure


def _confusion(function: Callable[[Floats], Floats], labels: np.ndarray[Any, Any]) -> Measure:
    # F1 is about label 1, so there are at least two labels even if only label 0 occurs.
    size = max(2, int(labels.max()) + 1)
    cells = np.zeros((len(labels), size * size))
    cells[np.arange(len(labels)), labels[:, 0] * size + labels[:, 1]] = 1.0

    def measure(counts: Floats) -> Floats:
        return function((counts @ cells).reshape(len(counts), size, size))

    return measure


def _called(aggregation: Aggregation, values: Sequence[Any]) -> Measure:
    places = np.arange(len(values))
    known: dict[bytes, float] = {}  # exchanges repeat themselves often

    def measure(counts: Floats) -> Floats:
        result = np.empty(len(counts))
        for row, whole in enumerate(counts.astype(np.int64)):
            key = whole.tobytes()
            if key not in known:
                known[key] = aggregate(aggregation, [values[place] for place in np.repeat(places, whole).tolist()])
            result[row] = known[key]
        return result

    return measure
