"""What a gate may ask of each metric: refused when it is read is whatever could never be answered, or never trip.

A limit that is understood but never checked, or only in part (its level ignored), would pass in silence; so every pair
of metric and condition is either honoured or has its reason here.
"""

from __future__ import annotations

import math

from evals.scores.probes import MAIN_COLUMNS, is_column
from evals.scores.scores import METRICS as SCORES
from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean

KINDS = ("max_drop", "max_rise", "min", "max")
"""Conditions: on the change from the unedited model, and on the number itself."""
CHANGES = ("max_drop", "max_rise")
GENERATION = ("GE", "RS")
_DRIFT_FROM_UNEDITED = ("weight_norm", "preservation", "memorisation", "kl")
_DRIFT_OF_TEXT = ("perplexity", "nll")
DIAGNOSIS = {"converged": "share of target values that converged", "written": "share of the residual written"}
"""Shares of 1 that an edit's diagnosis tells, of the newest batch."""
DRIFT = (*_DRIFT_FROM_UNEDITED, *_DRIFT_OF_TEXT)
_SHARES = ("acc", "acc_norm", "f1", "f1_weighted", "mcc", "exact_match", "em", "mcc_norm")
"""Metrics of tasks that lie between -1 and 1, whatever the task."""


def split_metric(metric: str) -> tuple[str, str]:
    """A gate's metric as (place, name): ("", "ES"), ("earlier", "ES"), ("drift", "nll"), or (task, its metric)."""
    place, _, name = metric.rpartition(".")
    return place, name


def check_rule(metric: str, kind: str, limit: float, level: float | None) -> None:
    """Refuse a gate that could not be checked as it is written.

    Raises:
        InputError: says why, and what to write instead; without the gate's own name.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind '{kind}' (known: {', '.join(KINDS)}){did_you_mean(kind, KINDS)}")
    if not math.isfinite(limit):
        raise InputError(f"the limit must be a number, got {limit}")
    if level is not None and not 0.5 <= level < 1:
        raise InputError(f"the level must be between 50 and 100 %, got {100 * level:g} %")
    if kind in CHANGES and limit < 0:
        raise InputError(f"{kind} must not be negative, got {limit:g}")
    place, name = split_metric(metric)
    if name in DIAGNOSIS and place in ("", "earlier"):
        _check_diagnosis(place, name, kind, limit, level)
    elif place in ("", "earlier"):
        _check_score(place, name, metric, kind, limit)
    elif place == "drift":
        _check_drift(name, metric, kind, level)
    elif name in _SHARES:
        # The widest change is from -1 to 1 (mcc), from 0 to 1 for the others.
        widest = 2.0 if kind in CHANGES and name.startswith("mcc") else 1.0
        if abs(limit) > widest:
            raise InputError(
                f"'{name}' is a share or correlation, at most 1 and no percentage: a limit of {limit:g} is beyond it; "
                f"write e.g. {limit / 100:g} for {limit:g} points"
            )


def _check_diagnosis(place: str, name: str, kind: str, limit: float, level: float | None) -> None:
    if place:
        raise InputError(f"'{name}' is told of the newest batch only, when it is computed; write '{name}'")
    if kind in CHANGES:
        raise InputError(
            f"'{name}' is no score of a model, so there is no change from the unedited one; use min or max"
        )
    if level is not None:
        raise InputError(f"'{name}' is counted, not sampled, and has no confidence interval; leave out the level")
    if not 0 <= limit <= 1:
        raise InputError(
            f"'{name}' is a share ({DIAGNOSIS[name]}), between 0 and 1 and no percentage: a limit of {limit:g} is "
            f"beyond it; write e.g. 0.9"
        )


def _check_score(place: str, name: str, metric: str, kind: str, limit: float) -> None:
    known = (*SCORES, *MAIN_COLUMNS) if place else (*SCORES, *MAIN_COLUMNS, *GENERATION, *DIAGNOSIS)
    if place and name in GENERATION:
        raise InputError(f"no '{metric}' is measured: texts are generated for the newest batch only; write '{name}'")
    if name not in known and not ("/" in name and is_column(name)):
        hint = did_you_mean(name, known)
        raise InputError(f"no '{metric}' is measured (there are: {', '.join(known)}; a task's is TASK.METRIC){hint}")
    if name in GENERATION and kind in CHANGES:
        raise InputError(
            f"{kind} cannot be told for '{name}': the unedited model writes no texts to compare with; use min or max"
        )
    if name != "GE" and not 0 <= limit <= 100:
        raise InputError(f"'{name}' lies between 0 and 100 %, so a limit of {limit:g} says nothing")


def _check_drift(name: str, metric: str, kind: str, level: float | None) -> None:
    if name not in DRIFT:
        there = [f"drift.{n}" for n in DRIFT]
        raise InputError(f"no '{metric}' is measured (there are: {', '.join(there)}){did_you_mean(metric, there)}")
    if level is not None:
        raise InputError(
            f"'{metric}' is one number of weights or of a given text and has no confidence interval; "
            "leave out the level"
        )
    if kind in CHANGES and name in _DRIFT_FROM_UNEDITED:
        raise InputError(
            f"'{metric}' is itself a distance from the unedited model, for which it is 0; write max instead of {kind}"
        )
