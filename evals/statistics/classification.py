"""Classification metrics from confusion counts, for many resamples at once.

``counts`` has the shape (..., labels, labels): true label first, predicted label second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evals.statistics.resampling import Floats


def accuracy(counts: Floats) -> Floats:
    """Share of the diagonal."""
    right: Floats = np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))
    return right


def f1(counts: Floats) -> Floats:
    """F1 of label 1 (binary); 0 where no true positive exists, as scikit-learn has it."""
    hit = counts[..., 1, 1]
    total = counts[..., 1, :].sum(axis=-1) + counts[..., :, 1].sum(axis=-1)
    return _ratio(2 * hit, total)


def mcc(counts: Floats) -> Floats:
    """Matthews correlation (for more than two labels Gorodkin's R_K); 0 where one side is constant."""
    total = counts.sum(axis=(-2, -1))
    right = np.trace(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    covariance = right * total - (true * predicted).sum(axis=-1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return _ratio(covariance, np.sqrt(np.maximum(spread, 0)))


METRICS: dict[str, Callable[[Floats], Floats]] = {"acc": accuracy, "f1": f1, "mcc": mcc}


def _ratio(above: Floats, below: Floats) -> Floats:
    result: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result
