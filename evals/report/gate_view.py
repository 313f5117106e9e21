"""A gate's outcome for the page: what was found, what decided and what was allowed, of one sign and as many digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.gate_rules import GENERATION, split_metric
from evals.gates import parse_gates
from evals.scores.scores import METRICS
from seqedit.errors import InputError


def gate_view(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded gate with ``digits``, ``change`` (written with its sign) and ``limit``, the end of what is kept.

    A drop is a change below zero, so what ``max_drop 0.05`` allows is written -0.05, as what was found is. A name that
    is no gate of this version has no limit.

    Args:
        gate: As a summary has it: {"gate", "value", "bound", "tripped", "reason"}.
    """
    found = {key: gate.get(key) for key in ("gate", "value", "bound", "reason")} | {
        "tripped": bool(gate.get("tripped"))
    }
    found |= {"change": False, "limit": None, "kept": "", "digits": 3}
    try:
        [rule] = parse_gates([str(gate.get("gate"))])
    except InputError:
        return found
    place, name = split_metric(rule.metric)
    if place in ("", "earlier") and name in (*METRICS, *GENERATION):
        found["digits"] = 1
    found["change"] = rule.kind in ("max_drop", "max_rise")
    found["limit"] = -rule.limit if rule.kind == "max_drop" else rule.limit
    found["kept"] = "down to" if rule.kind in ("max_drop", "min") else "up to"
    return found
