"""Statistics of a yes or no: logistic fits with clustered errors, bins with intervals, area under the curve."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from evals.statistics.stratified import wilson

Floats = NDArray[np.float64]
_STEPS = 100


def logistic(x: Floats, y: Floats, groups: Sequence[Hashable], level: float = 0.95) -> dict[str, Any]:
    """A maximum-likelihood logistic fit by Newton's method; standard errors clustered by group (sandwich).

    Args:
        x: (n, p) predictors, without a constant.
        y: (n,) 0 or 1.
        groups: Which observations belong together.
        level: Of the intervals.

    Returns:
        ``intercept``, and ``slopes`` with ``slope``, ``odds_ratio``, ``low`` and ``high`` each; ``converged``.
    """
    design = np.column_stack([np.ones(len(y)), x])
    beta = np.zeros(design.shape[1])
    converged = False
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        bread = np.linalg.pinv(design.T @ (design * (p * (1 - p))[:, None]))
        step = bread @ (design.T @ (y - p))
        beta += step * min(1.0, 5 / max(1e-12, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-9:
            converged = True
            break
    scores = design * (y - p)[:, None]
    sums: dict[Hashable, Floats] = {}
    for group, score in zip(groups, scores, strict=True):
        sums[group] = sums.get(group, np.zeros(len(beta))) + score
    meat = sum((np.outer(s, s) for s in sums.values()), np.zeros((len(beta), len(beta))))
    few = len(sums) / max(1, len(sums) - 1)
    errors = np.sqrt(np.diag(bread @ meat @ bread) * few)
    z = float(norm.ppf((1 + level) / 2))
    return {
        "intercept": float(beta[0]), "converged": converged,
        "slopes": [
            {"slope": float(b), "odds_ratio": float(np.exp(b)), "low": float(np.exp(b - z * e)),
             "high": float(np.exp(b + z * e))}
            for b, e in zip(beta[1:], errors[1:], strict=True)
        ],
    }  # fmt: skip


def binned(x: Floats, y: Floats, count: int = 6) -> list[dict[str, float]]:
    """Bins of about as many observations each, with the share of ones and its Wilson interval."""
    order = np.argsort(x, kind="stable")
    found = []
    for some in np.array_split(order, min(count, len(x))):
        low, high = wilson(float(y[some].sum()), len(some))
        found.append({
            "mean": float(x[some].mean()), "low_edge": float(x[some].min()), "high_edge": float(x[some].max()),
            "count": len(some), "share": float(y[some].mean()), "low": low, "high": high,
        })  # fmt: skip
    return found


def auc(score: Floats, y: Floats) -> float:
    """How often a one has a larger score than a zero, ties counting half."""
    ranks, ones = rankdata(score), y == 1
    n, m = int(ones.sum()), int((~ones).sum())
    return float((ranks[ones].sum() - n * (n + 1) / 2) / (n * m))
