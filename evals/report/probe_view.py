"""Portability and locality of a run's steps, as the page's table of them shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.scores.probes import MAIN_COLUMNS, in_order

Step = Mapping[str, Any]


def probe_columns(steps: Sequence[Step]) -> list[str]:
    """The columns of portability and locality that some step tells, of its own batch or of all earlier edits."""
    told = (
        name for step in steps for scores in (step, step.get("earlier") or {})
        for name, value in scores.items() if value is not None
    )  # fmt: skip
    return in_order(told)


def probe_view(steps: Sequence[Step]) -> dict[str, Any] | None:
    """The table of a run's portability and locality; None where no step has any.

    Args:
        steps: Steps of a summary.

    Returns:
        ``columns``, ``earlier`` (those of all earlier edits), ``rows`` (the step's number, ``own`` and ``earlier`` with
        a value and the ends of its interval for each column) and ``missing``, why a column is nowhere told.
    """
    columns = probe_columns(steps)
    if not columns:
        return None
    behind = [name for name in columns if any((step.get("earlier") or {}).get(name) is not None for step in steps)]
    rows = []
    for step in steps:
        earlier = step.get("earlier") or {}
        own, old = [_cell(step, name) for name in columns], [_cell(earlier, name) for name in behind]
        if any(cell["value"] is not None for cell in (*own, *old)):
            rows.append({"step": step.get("step"), "own": own, "earlier": old})
    reasons = {name: why for step in steps for name, why in (step.get("missing") or {}).items()}
    missing = {name: reasons[name] for name in MAIN_COLUMNS if name in reasons and name not in columns}
    return {"columns": columns, "earlier": behind, "rows": rows, "missing": missing}


def _cell(scores: Step, name: str) -> dict[str, float | None]:
    value = scores.get(name)
    low, high = (scores.get("intervals") or {}).get(name) or (None, None)
    return {"value": None if value is None else float(value), "low": low, "high": high}
