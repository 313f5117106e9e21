"""What the report's template shows, made from summaries: no markup here, no logic there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from evals.figures import inline_svg, write_png
from evals.plots import (
    curve_points,
    main_metric,
    plot_forgetting_curves,
    plot_forgetting_matrix,
    plot_scores,
    plot_task_changes,
)

Summary = Mapping[str, Any]
_SCORES = ("ES", "PS", "NS", "S", "EM", "PM", "NM", "GE", "RS")
_EARLIER = ("ES", "PS", "NS", "S")


@dataclass(frozen=True)
class Figures:
    """Puts figures on the page and beside it."""

    out: Path

    def add(self, figure: Figure | None, name: str, caption: str) -> dict[str, Any] | None:
        """Write a figure as ``name.png`` and return it for the page; None stays None."""
        if figure is None:
            return None
        write_png(figure, self.out / f"{name}.png")
        return {"svg": Markup(inline_svg(figure, name, caption)), "caption": caption}


def view_of(runs: Mapping[str, Summary], slugs: Mapping[str, str], figures: Figures) -> dict[str, Any]:
    """Variables of the template."""
    first = next(iter(runs.values()))
    several = len(runs) > 1
    return {
        "title": first.get("title") or "Sequential edits",
        "several": several,
        "comparison": figures.add(
            plot_forgetting_curves(runs),
            "forgetting_curve",
            "Mean score of edits by their age in steps; the band is the 95 % interval over batches.",
        ),
        "overview": [_overview(name, slugs[name], run) for name, run in runs.items()],
        "runs": [
            _run_view(name, slugs[name], run, figures, f"{slugs[name]}_" if several else "")
            for name, run in runs.items()
        ],
    }


def _overview(name: str, slug: str, run: Summary) -> dict[str, Any]:
    """The last step in one row."""
    steps = run.get("steps") or []
    last = steps[-1] if steps else {}
    return {
        "name": name,
        "slug": slug,
        "steps": len(steps),
        "requests": sum(int(step.get("requests") or 0) for step in steps),
        "last": last,
        "earlier": last.get("earlier") or {},
        "seconds": sum(float(step.get("seconds") or 0) for step in steps),
    }


def _run_view(name: str, slug: str, run: Summary, figures: Figures, prefix: str) -> dict[str, Any]:
    steps = [dict(step) for step in run.get("steps") or []]
    metrics = {task: main_metric(entry) for step in steps for task, entry in (step.get("tasks") or {}).items()}
    for step in steps:
        step["tasks"] = {task: _task_view(entry) for task, entry in (step.get("tasks") or {}).items()}
        step["earlier"] = step.get("earlier") or {}
    metric = run.get("forgetting_metric") or "ES"
    return {
        "name": name,
        "slug": slug,
        "description": _description(run),
        "overview": _overview(name, slug, run),
        "baseline": _baseline(run),
        "steps": steps,
        "tasks": metrics,
        "scores": [m for m in _SCORES if any(step.get(m) is not None for step in steps)],
        "earlier": [m for m in _EARLIER if any(step["earlier"].get(m) is not None for step in steps)],
        "timings": list(dict.fromkeys(key for step in steps for key in step.get("timings") or {})),
        "with_perplexity": any(step.get("perplexity") is not None for step in steps),
        "forgetting": run.get("forgetting") or [],
        "forgetting_metric": metric,
        "curve": curve_points(run),
        "figures": [
            figure
            for figure in (
                figures.add(
                    plot_scores(run),
                    f"{prefix}scores",
                    "Score S of the batch just edited in, and of all earlier edits on the same model.",
                ),
                figures.add(
                    plot_task_changes(run),
                    f"{prefix}tasks",
                    "Change of each task's metric against the unedited model with its 95 % interval.",
                ),
                figures.add(
                    plot_forgetting_matrix(run),
                    f"{prefix}forgetting_matrix",
                    f"{metric} of every batch at every later step, in percent.",
                ),
            )
            if figure is not None
        ],
    }


def _task_view(entry: Mapping[str, Any]) -> dict[str, Any]:
    name = main_metric(entry)
    low, high = entry.get("ci_low"), entry.get("ci_high")
    return {
        "metric": name,
        "value": entry.get(name),
        "change": entry.get("change"),
        "low": low,
        "high": high,
        # The page marks a change only where the interval leaves out 0.
        "worse": high is not None and high < 0,
        "better": low is not None and low > 0,
    }


def _description(run: Summary) -> list[tuple[str, str]]:
    """What was run, as rows of name and value."""
    rows = []
    model = run.get("model") or {}
    if isinstance(model, str):
        model = {"name": model}
    method = run.get("method") or {}
    if isinstance(method, str):
        method = {"name": method}
    rows += [(f"model {key}" if key != "name" else "model", value) for key, value in model.items()]
    rows += [(f"method: {key}" if key != "name" else "method", value) for key, value in method.items()]
    return [(key, _plain(value)) for key, value in rows if value is not None]


def _baseline(run: Summary) -> list[tuple[str, str, Any]]:
    """Rows (what, metric, value) of the unedited model."""
    rows: list[tuple[str, str, Any]] = []
    for name, values in (run.get("baseline") or {}).items():
        if isinstance(values, Mapping):
            rows += [(name, key, value) for key, value in values.items() if isinstance(value, (int, float))]
        elif isinstance(values, (int, float)):
            rows.append((name, "", values))
    return rows


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
