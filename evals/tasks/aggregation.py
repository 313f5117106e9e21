"""Aggregations of the shipped lm-eval tasks.

lm-eval estimates the error of mcc and f1 by 100,000 resamples, which takes minutes and cannot be switched off on its
command line; it knows the metrics by the identity of its own functions. Changes are compared document by document here
(`evals.statistics.changes`), so nothing is lost by leaving that out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mcc(items: Sequence[Any]) -> float:
    """lm-eval's Matthews correlation of (gold, prediction) pairs."""
    from lm_eval.api.metrics import matthews_corrcoef

    return float(matthews_corrcoef(items))


def f1(items: Sequence[Any]) -> float:
    """lm-eval's F1 of (gold, prediction) pairs."""
    from lm_eval.api.metrics import f1_score

    return float(f1_score(items))


def f1_weighted(items: Sequence[Any]) -> float:
    """Weighted F1 of (gold, prediction) pairs, scikit-learn's ``f1_score(average="weighted")``."""
    from sklearn.metrics import f1_score

    gold, predicted = zip(*items, strict=True)
    return float(f1_score(gold, predicted, average="weighted", zero_division=0))
