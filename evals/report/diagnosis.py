"""What a step's diagnosis says, as the report shows it: how the batch went into the weights, before any score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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


def diagnosis_view(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The same for a table on the page, shares in percent, with the warnings; None for a step without a diagnosis."""
    if not found:
        return None
    figures = diagnosis_figures(found)
    for name in ("written", "size"):
        figures[name] = None if figures[name] is None else 100 * figures[name]
    return {**figures, "warnings": [str(fault.get("text", "")) for fault in found.get("faults") or ()]}
