"""Two models on the same documents, grouped by what both made of them.

Documents with the same label and the same two answers are interchangeable, so a bootstrap and an exchange test need
only how many there are of each kind: at most eight numbers for a binary task, whatever the number of documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.resampling import Floats
from evals.task_metrics import METRICS
from evals.task_outcomes import Outcome
from seqedit.errors import InputError


@dataclass(frozen=True)
class PairedOutcomes:
    """Documents by kind, and a metric of both models as a function of how many there are of each kind.

    Attributes:
        counts: Documents of every kind, (kinds,); the mirror image of a kind is a kind too, if with 0 documents.
        mirror: Position of the kind with the two models exchanged, (kinds,); a kind where both say the same is its
            own mirror image.
        measure: Counts (n, kinds) to the metric of the baseline and of the other model, (n,) each.
    """

    counts: NDArray[np.int64]
    mirror: NDArray[np.intp]
    measure: Callable[[Floats], tuple[Floats, Floats]]

    def values(self) -> tuple[float, float]:
        """The metric of both models on the documents as they are."""
        before, after = self.measure(self.counts[None, :].astype(np.float64))
        return float(before[0]), float(after[0])

    def change(self, counts: Floats) -> Floats:
        """Metric of the other model less that of the baseline, (n,), for counts (n, kinds)."""
        before, after = self.measure(counts)
        difference: Floats = after - before
        return difference


def pair_outcomes(metric: str, baseline: Sequence[Outcome], outcomes: Sequence[Outcome]) -> PairedOutcomes:
    """Group the documents of a task.

    Args:
        metric: acc, f1 or mcc from gold and prediction; any other name is the mean of the outcomes' values.
        baseline: Outcomes of the model that is compared with.
        outcomes: Outcomes of the other model, for the same documents in any order.

    Raises:
        InputError: if the documents differ or there are none, or the metric cannot be told from the outcomes.
    """
    before, after = matched(baseline, outcomes)
    if metric in METRICS and all(o.gold is not None and o.prediction is not None for o in (*before, *after)):
        if metric == "acc":
            # Only right or wrong counts: four kinds, however many labels there are.
            kinds, counts, mirror = _kinds(
                [(1, int(_right(b)), int(_right(a))) for b, a in zip(before, after, strict=True)]
            )
        else:
            kinds, counts, mirror = _kinds(
                [(b.gold, b.prediction, a.prediction) for b, a in zip(before, after, strict=True)]
            )
        labels = np.array(kinds, dtype=np.int64)
        function = METRICS[metric]
        # F1 is about label 1, so there are at least two labels even if only label 0 occurs.
        size = max(2, int(labels.max()) + 1)

        def measure(weights: Floats) -> tuple[Floats, Floats]:
            return (
                function(_confusion(weights, labels[:, 0], labels[:, 1], size)),
                function(_confusion(weights, labels[:, 0], labels[:, 2], size)),
            )

        return PairedOutcomes(counts, mirror, measure)
    if all(metric in o.values for o in (*before, *after)):
        kinds, counts, mirror = _kinds(
            [(0, b.values[metric], a.values[metric]) for b, a in zip(before, after, strict=True)]
        )
        numbers = np.array([kind[1:] for kind in kinds], dtype=np.float64)

        def means(weights: Floats) -> tuple[Floats, Floats]:
            both = weights @ numbers / weights.sum(axis=-1, keepdims=True)
            return both[..., 0], both[..., 1]

        return PairedOutcomes(counts, mirror, means)
    raise InputError(f"metric {metric!r} cannot be told from these outcomes; known: {', '.join(METRICS)}")


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


def _right(outcome: Outcome) -> bool:
    return outcome.gold == outcome.prediction


def _kinds(
    documents: Sequence[tuple[Any, Any, Any]],
) -> tuple[list[tuple[Any, Any, Any]], NDArray[np.int64], NDArray[np.intp]]:
    """Distinct (label, before, after) and their mirror images, how often each occurs, and where its mirror image is."""
    counts: dict[tuple[Any, Any, Any], int] = {}
    for kind in documents:
        counts[kind] = counts.get(kind, 0) + 1
    for label, first, second in list(counts):
        counts.setdefault((label, second, first), 0)
    kinds = list(counts)
    places = {kind: place for place, kind in enumerate(kinds)}
    mirror = np.array([places[label, second, first] for label, first, second in kinds], dtype=np.intp)
    return kinds, np.fromiter(counts.values(), dtype=np.int64, count=len(counts)), mirror


def _confusion(weights: Floats, true: NDArray[np.int64], predicted: NDArray[np.int64], labels: int) -> Floats:
    """Confusion counts (n, labels, labels) from counts (n, kinds) of (true, predicted) pairs."""
    cells = np.zeros((weights.shape[-1], labels * labels))
    cells[np.arange(len(true)), true * labels + predicted] = 1.0
    confusion: Floats = (weights @ cells).reshape(len(weights), labels, labels)
    return confusion
