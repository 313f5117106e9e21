"""Two models on the same documents, grouped by what both made of them.

Documents of which a metric notes the same under both models are interchangeable, so a bootstrap and an exchange test
need only how many there are of each kind: at most eight numbers for a binary task, whatever the number of documents.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.statistics.classification import METRICS
from evals.statistics.document_values import same
from evals.statistics.measures import Aggregation, Measure, measure_of
from evals.statistics.outcomes import Outcome
from evals.statistics.resampling import Floats
from seqedit.errors import InputError


@dataclass(frozen=True)
class PairedOutcomes:
    """Documents by kind, and a metric of both models as a function of how many there are of each kind.

    Attributes:
        counts: Documents of every kind, (kinds,); the mirror image of a kind is a kind too, if with 0 documents.
        mirror: Position of the kind with the two models exchanged, (kinds,); a kind where both say the same is its
            own mirror image.
        measure: Counts (n, kinds) to the metric of the baseline and of the other model, (n,) each.
        quick: Whether that is a formula; otherwise the task's own aggregation is called for each of the n.
    """

    counts: NDArray[np.int64]
    mirror: NDArray[np.intp]
    measure: Callable[[Floats], tuple[Floats, Floats]]
    quick: bool = True

    def values(self) -> tuple[float, float]:
        """The metric of both models on the documents as they are."""
        before, after = self.measure(self.counts[None, :].astype(np.float64))
        return float(before[0]), float(after[0])

    def change(self, counts: Floats) -> Floats:
        """Metric of the other model less that of the baseline, (n,), for counts (n, kinds)."""
        before, after = self.measure(counts)
        difference: Floats = after - before
        return difference


def pair_outcomes(
    metric: str, baseline: Sequence[Outcome], outcomes: Sequence[Outcome], aggregation: Aggregation | None = None
) -> PairedOutcomes:
    """Group the documents of a task.

    Args:
        metric: The metric; what it noted of a document is in the outcome's values, else acc, f1 and mcc follow from
            gold and prediction.
        baseline: Outcomes of the model that is compared with.
        outcomes: Outcomes of the other model, for the same documents in any order.
        aggregation: How the task makes the metric of what it noted; None where that is not known, see
            `evals.statistics.measures.measure_of`.

    Raises:
        InputError: if the documents differ or there are none, or the metric cannot be told from the outcomes.
    """
    before, after = ([_noted(metric, o) for o in side] for side in matched(baseline, outcomes))
    if any(value is _NOTHING for value in (*before, *after)):
        raise InputError(
            f"metric {metric!r} cannot be told from these outcomes: not every document has it; "
            f"known: {', '.join(METRICS)}"
        )
    kinds, counts, mirror = _kinds(before, after)
    first, second = (measure_of(metric, [kind[side] for kind in kinds], aggregation) for side in (0, 1))
    if first is None or second is None:
        raise InputError(
            f"metric {metric!r} cannot be told from these outcomes without the task's own aggregation; "
            f"known: {', '.join(METRICS)}"
        )
    (of_first, quick), (of_second, also_quick) = first, second
    if aggregation is None or (quick and also_quick):
        return PairedOutcomes(counts, mirror, lambda weights: (of_first(weights), of_second(weights)))
    return PairedOutcomes(counts, mirror, _both(metric, kinds, aggregation), quick=False)


def _both(
    metric: str, kinds: Sequence[tuple[Any, Any]], aggregation: Aggregation
) -> Callable[[Floats], tuple[Floats, Floats]]:
    """The metric of both models by calling the task's aggregation; it is called once for what either may be."""
    distinct: dict[Hashable, tuple[int, Any]] = {}
    places = [[distinct.setdefault(_key(value), (len(distinct), value))[0] for value in kind] for kind in kinds]
    one = measure_of(metric, [value for _, value in distinct.values()], aggregation)
    assert one is not None  # only without an aggregation
    measure: Measure = one[0]
    sides = [np.eye(len(distinct))[[place[side] for place in places]] for side in (0, 1)]
    return lambda weights: (measure(weights @ sides[0]), measure(weights @ sides[1]))


def matched(baseline: Sequence[Outcome], outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Both lists in one order of documents.

    Raises:
        InputError: if the documents differ or there are none.
    """
    before, after = ({(o.doc_id, o.doc_hash): o for o in side} for side in (baseline, outcomes))
    if not before or before.keys() != after.keys():
        raise InputError(
            f"a paired change needs the same documents on both sides: {len(before)} against {len(after)}, "
            f"{len(before.keys() & after.keys())} in common"
        )
    keys = sorted(before)
    return [before[key] for key in keys], [after[key] for key in keys]


class _Nothing:
    """What a metric noted of a document that it leaves out."""


_NOTHING = _Nothing()


def _noted(metric: str, outcome: Outcome) -> Any:
    """What a metric noted of a document."""
    if metric in outcome.values:
        return outcome.values[metric]
    if metric not in METRICS or outcome.gold is None or outcome.prediction is None:
        return _NOTHING
    if metric == "acc":
        # Only right or wrong counts: four kinds, however many labels there are.
        return float(outcome.gold == outcome.prediction)
    return outcome.gold, outcome.prediction


def _key(value: Any) -> Hashable:
    """Equal for equal notes; most are numbers or pairs of labels, which are their own keys."""
    if isinstance(value, int | float) and value == value:
        return value
    if isinstance(value, tuple) and all(type(part) is int for part in value):
        return value
    return same(value)


def _kinds(
    before: Sequence[Any], after: Sequence[Any]
) -> tuple[list[tuple[Any, Any]], NDArray[np.int64], NDArray[np.intp]]:
    """Distinct (before, after) and their mirror images, how often each occurs, and where its mirror image is."""
    counts: dict[tuple[Hashable, Hashable], int] = {}
    kinds: dict[tuple[Hashable, Hashable], tuple[Any, Any]] = {}
    for first, second in zip(before, after, strict=True):
        key = (_key(first), _key(second))
        counts[key] = counts.get(key, 0) + 1
        kinds.setdefault(key, (first, second))
    for first, second in list(counts):
        counts.setdefault((second, first), 0)
        kinds.setdefault((second, first), kinds[first, second][::-1])
    places = {key: place for place, key in enumerate(counts)}
    mirror = np.array([places[second, first] for first, second in counts], dtype=np.intp)
    number = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
    return [kinds[key] for key in counts], number, mirror
