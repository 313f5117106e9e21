"""Classification metrics from confusion counts, for many resamples at once.

``counts`` has the shape (..., labels, labels): true label first, predicted label second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evals.statistics.resampling import Floats

WEIGHTED = "f1_weighted"
"""Weighted F1, as scikit-learn's scorers call it: told of every task whose documents share their labels."""


def accuracy(counts: Floats) -> Floats:
    """Share of the diagonal."""
    right: Floats = np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))
    return right


def f1(counts: Floats) -> Floats:
    """F1 of label 1 (binary); 0 where no true positive exists, as scikit-learn has it."""
    hit = counts[..., 1, 1]
    total = counts[..., 1, :].sum(axis=-1) + counts[..., :, 1].sum(axis=-1)
    return _ratio(2 * hit, total)


def f1_weighted(counts: Floats) -> Floats:
    """F1 of every label, averaged by how many documents have it: scikit-learn's ``f1_score(average="weighted")``.

    The figure of the GLUE evaluations in the papers on sequential editing. A label that is never right counts as 0.
    """
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    weighted: Floats = (_ratio(2 * hit, true + predicted) * true).sum(axis=-1) / true.sum(axis=-1)
    return weighted


def mcc(counts: Floats) -> Floats:
    """Matthews correlation (for more than two labels Gorodkin's R_K); 0 where one side is constant."""
    total = counts.sum(axis=(-2, -1))
    right = np.trace(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    covariance = right * total - (true * predicted).sum(axis=-1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return _ratio(covariance, np.sqrt(np.maximum(spread, 0)))


METRICS: dict[str, Callable[[Floats], Floats]] = {"acc": accuracy, "f1": f1, "mcc": mcc, WEIGHTED: f1_weighted}


def _ratio(above: Floats, below: Floats) -> Floats:
    result: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result
