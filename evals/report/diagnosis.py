"""What a step's diagnosis says, as the report shows it: how the batch went into the weights, before any score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS: dict[str, tuple[str, int, str]] = {
    "learnt": ("learnt", 0, "Learnt: facts that the model answers after the step"),
    "converged": ("converged", 0, "Converged: target values that reached their answer"),
    "reached": ("at the argmax", 0, "At the argmax: those that make it the model's own"),
    "requests": ("of", 0, ""),
    "written": ("written", 1, "Written: share of the residual, in percent"),
    "condition": ("condition", 1, "Condition: of the solved system"),
    "size": ("update", 2, "Update: by the size of the weights, in percent"),
    "load": ("load", 4, "Load: edits in force per key dimension"),
}
"""Column of the page's table -> its heading, digits and what the caption says of it."""


def diagnosis_figures(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The numbers of a recorded diagnosis, each of the layer that is worst off; None where it does not tell one.

    Returns:
        "converged" and "reached" (target values, and those whose answer is the argmax), "requests", "written" (share of
        the residual), "condition", "size" (of the update, by that of the weights) and "load".
    """
    data = found or {}
    worst = {"written": min, "condition": max, "size": max, "load": max}
    return {
        **{name: data.get(name) for name in ("requests", "converged", "reached")},
        **{name: pick(data[name].values()) if data.get(name) else None for name, pick in worst.items()},
    }


def diagnosis_view(found: Mapping[str, Any] | None, facts: Sequence[Any] = ()) -> dict[str, Any] | None:
    """The same for a table on the page, shares in percent, with the warnings; None for a step without a diagnosis.

    Args:
        found: The recorded diagnosis.
        facts: The step's facts; where they say whether they were learnt, "learnt" counts them.
    """
    if not found:
        return None
    figures = diagnosis_figures(found)
    for name in ("written", "size"):
        figures[name] = None if figures[name] is None else 100 * figures[name]
    told = [fact["argmax_correct"] for fact in facts if isinstance(fact.get("argmax_correct"), bool)]
    figures["learnt"] = sum(told) if told else None
    return {**figures, "warnings": [str(fault.get("text", "")) for fault in found.get("faults") or ()]}


def diagnosis_share(view: Mapping[str, Any], name: str) -> float | None:
    """A number of `diagnosis_view` as it is plotted: counts of target values in percent of the requests."""
    value = view.get(name)
    if value is None or name not in ("converged", "reached"):
        return None if value is None else float(value)
    return 100 * float(value) / view["requests"] if view.get("requests") else None
