"""What the report's template shows, made from summaries: no markup here, no logic there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from evals.report.charts import (
    DRIFTS,
    SCORES,
    Chart,
    ages_chart,
    charts_of,
    collapse_of,
    curve_points,
    half_life_of,
    parts_of,
    plotted_metric,
)
from evals.report.comparison import Cell, ComparisonRow, columns
from evals.report.comparison_plot import plot_comparison
from evals.report.diagnosis import diagnosis_view
from evals.report.figures import inline_svg, svg_text, write_png, write_svg
from evals.report.plots import plot_chart, plot_forgetting_matrix

Summary = Mapping[str, Any]
_EARLIER = ("ES", "PS", "NS", "S")
# Scores per token are in the plots and the data files; the timeline is wide enough without them.
_TIMELINE = tuple(name for name in SCORES if name not in ("ET", "PT", "NT"))
_TABLE_STEPS = 60
"""A matrix of more steps than this has its numbers in a file, not on the page."""


@dataclass
class Figures:
    """Puts figures on the page and beside it, and what the page's script draws them from into its data."""

    out: Path
    data: dict[str, Any] = field(default_factory=dict)

    def add(self, figure: Figure | None, name: str, caption: str, live: Mapping[str, Any] | None = None) -> Any:
        """Write a figure as ``name.png`` and ``name.svg`` and return it for the page; None stays None."""
        if figure is None:
            return None
        write_png(figure, self.out / f"{name}.png")
        figure.set_layout_engine("none")  # the first file settled it
        svg = svg_text(figure, name)
        write_svg(svg, self.out / f"{name}.svg")
        if live is not None:
            self.data[name] = dict(live)
        return {
            "name": name,
            "svg": Markup(inline_svg(svg, name, caption)),
            "caption": caption,
            "files": [f"{name}.png", f"{name}.svg"],
        }

    def chart(self, chart: Chart | None, prefix: str, run: str | None) -> Any:
        """A chart of a run (None: of all runs), or None where there is none."""
        if chart is None:
            return None
        live = {**chart.to_dict(), "run": run}
        return self.add(plot_chart(chart), f"{prefix}{chart.name}", chart.caption, live)


def view_of(
    runs: Mapping[str, Summary],
    slugs: Mapping[str, str],
    figures: Figures,
    comparison: Sequence[ComparisonRow] = (),
) -> dict[str, Any]:
    """Variables of the template, but for the script's data."""
    first = next(iter(runs.values()))
    several = len(runs) > 1
    return {
        "title": first.get("title") or "Sequential edits",
        "several": several,
        "ages": figures.chart(ages_chart(runs), "", None),
        "overview": [_overview(name, slugs[name], run) for name, run in runs.items()],
        "comparison": _comparison(comparison, figures),
        "runs": [
            _run_view(name, slugs[name], run, figures, f"{slugs[name]}_" if several else "")
            for name, run in runs.items()
        ],
    }


def _overview(name: str, slug: str, run: Summary) -> dict[str, Any]:
    """The last scored step in one row."""
    steps = run.get("steps") or []
    scored = [step for step in steps if any(step.get(m) is not None for m in SCORES)]
    last = (scored or steps or [{}])[-1]
    return {
        "name": name,
        "slug": slug,
        "steps": len(steps),
        "requests": sum(int(step.get("requests") or 0) for step in steps),
        "last": _fractions(last),
        "earlier": _fractions(last.get("earlier") or {}),
        "seconds": sum(float(step.get("seconds") or 0) for step in steps),
        "half_life": half_life_of(run),
        "collapse": collapse_of(run),
        "tripped": sum(1 for step in steps for gate in step.get("gates") or [] if gate.get("tripped")),
    }


def _comparison(rows: Sequence[ComparisonRow], figures: Figures) -> Any:
    if not rows:
        return None
    names = columns(rows)
    caption = "Methods on the same facts: each score with its 95 % interval."
    shown = [(row, [row.cells.get(name, Cell(None)) for name in names]) for row in rows]
    table = [
        {
            "label": row.label,
            "note": row.note,
            "seconds": row.seconds_per_edit,
            "cells": [
                {"value": c.value, "low": c.low, "high": c.high, "digits": 3 if "." in name else 1}
                for name, c in zip(names, cells, strict=True)
            ],
        }
        for row, cells in shown
    ]
    return {
        "names": names,
        "rows": table,
        "notes": any(row.note for row in rows),
        "figure": figures.add(plot_comparison(rows), "comparison", caption),
    }


def _run_view(name: str, slug: str, run: Summary, figures: Figures, prefix: str) -> dict[str, Any]:
    steps = [dict(step) for step in run.get("steps") or []]
    metrics = {task: plotted_metric(entry) for step in steps for task, entry in (step.get("tasks") or {}).items()}
    states = _states(steps)
    for step in steps:
        step["tasks"] = {task: _task_view(entry) for task, entry in (step.get("tasks") or {}).items()}
        step["earlier"] = _fractions(step.get("earlier") or {})
        step |= _fractions(step)
        step["state"] = states.get(step.get("step"), "")
        step["gone"] = bool(step["state"]) and not step["state"].startswith("in force")
        step["gates"] = [_gate_view(gate) for gate in step.get("gates") or []]
        step["tripped"] = any(gate["tripped"] for gate in step["gates"])
        step["perplexity"] = (step.get("drift") or {}).get("perplexity", step.get("perplexity"))
        spent = {part: value for part, value in (step.get("timings") or {}).items() if part != "edit"}
        step["evals"] = sum(spent.values()) if spent else None
        step["drift"] = {**{key: step.get(key) for key in DRIFTS}, **(step.get("drift") or {})}
        step["diagnosis"] = diagnosis_view(step.get("diagnosis"))
        step["facts"] = [_fact_view(fact) for fact in step.get("facts") or []]
    metric = run.get("forgetting_metric") or "ES"
    matrix = run.get("forgetting") or []
    if all(value is None for row in matrix for value in row):
        matrix = []
    charts = [figures.chart(chart, prefix, slug) for chart in charts_of(run)]
    caption = f"{metric} of every batch at every later step, in percent."
    live = {"kind": "heat", "run": slug, "title": f"{metric} of every batch over time", "caption": caption,
            "over": "step", "metric": metric, "cells": matrix,
            "steps": [step.get("step") for step in steps] if len(steps) == len(matrix) else None,
            "collapse": collapse_of(run).get(f"earlier.{metric}")}  # fmt: skip
    heat = figures.add(plot_forgetting_matrix(run), f"{prefix}forgetting_matrix", caption, live)
    placed = [*charts[:2], heat, *charts[2:]] if heat else charts
    return {
        "name": name,
        "slug": slug,
        "prefix": prefix,
        "description": _description(run),
        "overview": _overview(name, slug, run),
        "stopped": run.get("stopped"),
        "baseline": _baseline(run),
        "at_chance": _at_chance(run),
        "steps": steps,
        "operations": list(dict.fromkeys(str(step["operation"]) for step in steps if step.get("operation"))),
        "tasks": metrics,
        "with_previous": any(task["previous"] for step in steps for task in step["tasks"].values()),
        "scores": [m for m in _TIMELINE if any(step.get(m) is not None for step in steps)],
        "earlier": [m for m in _EARLIER if any(step["earlier"].get(m) is not None for step in steps)],
        "drifts": {k: title for k, title in DRIFTS.items() if any(step["drift"][k] is not None for step in steps)},
        "timings": parts_of(steps),
        "with_perplexity": any(step["perplexity"] is not None for step in steps),
        "with_diagnosis": any(step["diagnosis"] for step in steps),
        "with_warnings": any(step["diagnosis"] and step["diagnosis"]["warnings"] for step in steps),
        "with_gates": any(step["gates"] for step in steps),
        "with_state": any(step.get("operation") for step in steps),
        "forgetting": matrix if len(matrix) <= _TABLE_STEPS else [],
        "forgetting_left_out": sum(v is not None for row in matrix for v in row) if len(matrix) > _TABLE_STEPS else 0,
        "forgetting_metric": metric,
        "forgetting_steps": live["steps"] or list(range(1, len(matrix) + 1)),
        "curve": curve_points(run),
        "facts": [(step, fact) for step in steps for fact in step["facts"]],
        "figures": placed,
    }


def _fractions(scores: Summary) -> dict[str, Any]:
    """Scores that came as whole numbers (100) read like the others of their column (100.0)."""
    return {k: float(v) if k in SCORES and isinstance(v, int) else v for k, v in scores.items()}


def _states(steps: Sequence[Summary]) -> dict[Any, str]:
    """Step number -> in force or not, and by what it was taken out of force."""
    by: dict[str, str] = {}
    for step in steps:
        for target in step.get("targets") or ():
            by[str(target)] = (
                f"{_PAST.get(str(step.get('operation')), step.get('operation'))} at step {step.get('step')}"
            )
    states = {}
    for step in steps:
        state = by.get(str(step.get("entry")), "")
        if not state and step.get("active") is True:
            facts = step.get("facts") or []
            gone = sum(1 for fact in facts if fact.get("in_force") is False)
            part = f"in force, {gone} of {len(facts)} superseded" if gone else "in force"
            state = "superseded" if gone and gone == len(facts) else part
        elif not state and step.get("active") is False and step.get("operation") not in (None, "revert"):
            state = "not in force"
        states[step.get("step")] = state
    return states


_PAST = {"revert": "reverted", "swap": "swapped", "merge": "merged"}


def _task_view(entry: Mapping[str, Any]) -> dict[str, Any]:
    name = plotted_metric(entry)
    return {
        "metric": name,
        "value": entry.get(name),
        **_change(entry, ""),
        "previous": _change(entry, "previous_") if entry.get("previous_change") is not None else None,
    }


def _change(entry: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    low, high = entry.get(f"{prefix}ci_low"), entry.get(f"{prefix}ci_high")
    return {
        "change": entry.get(f"{prefix}change"),
        "low": low,
        "high": high,
        "p_value": entry.get(f"{prefix}p_value"),
        # The page marks a change only where the interval leaves out 0.
        "worse": high is not None and high < 0,
        "better": low is not None and low > 0,
    }


def _gate_view(gate: Mapping[str, Any]) -> dict[str, Any]:
    return {key: gate.get(key) for key in ("gate", "value", "bound", "reason")} | {"tripped": bool(gate.get("tripped"))}


def _fact_view(fact: Mapping[str, Any]) -> dict[str, Any]:
    prompt = str(fact.get("prompt") or "–").replace("{}", str(fact.get("subject") or "{}"))
    correct = fact.get("argmax_correct")
    answer = "" if correct is None else "learnt" if correct else "not learnt"
    return {**fact, "prompt": prompt, "learnt": answer, "gone": fact.get("in_force") is False}


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
            chance = values.get("chance")
            if isinstance(chance, Mapping):
                rows.append((name, "chance", chance["chance"]))
        elif isinstance(values, (int, float)):
            rows.append((name, "", values))
    return rows


def _at_chance(run: Summary) -> list[dict[str, Any]]:
    """Tasks whose main metric on the unedited model cannot be told from chance, with its interval."""
    found = {name: values.get("chance") for name, values in (run.get("baseline") or {}).items()
             if isinstance(values, Mapping)}  # fmt: skip
    return [{"task": name, **chance} for name, chance in found.items() if chance and not chance["told"]]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
