"""What the report's template shows, made from summaries: no markup here, no logic there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from evals.report.charts import (
    DRIFTS,
    FEW,
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
from evals.report.comparison import Cell, ComparisonRow, columns, digits_of, missing_notes
from evals.report.comparison_plot import plot_comparison
from evals.report.diagnosis import COLUMNS as DIAGNOSIS
from evals.report.diagnosis import diagnosis_view
from evals.report.figures import inline_svg, svg_text, write_png, write_svg
from evals.report.force import (
    entry_states,
    fact_states,
    facts_edited,
    facts_in_force,
    standing_step,
    step_facts_in_force,
)
from evals.report.gate_view import gate_view
from evals.report.plots import plot_chart, plot_forgetting_matrix
from evals.report.probe_view import probe_view
from evals.scores.probes import MAIN_COLUMNS, is_column
from seqedit.support.printable import plain

Summary = Mapping[str, Any]
_EARLIER = ("ES", "PS", "NS", "S")
# Scores per token are in the plots and the data files; the timeline is wide enough without them.
_TIMELINE = tuple(name for name in SCORES if name not in ("ET", "PT", "NT"))
MOST_ROWS = 50
"""A table of more rows scrolls in a box of its own."""
_FACT_COLUMNS = {"target_true": "true", "target_new": "new", "before": "before", "after": "after"}
_ANSWERS = {"before": "before any edit", "after": "right after the step"}
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
    several = len(runs) > 1
    shown = [
        _run_view(name, slugs[name], run, figures, f"{slugs[name]}_" if several else "") for name, run in runs.items()
    ]
    overview = [run["overview"] for run in shown]
    return {
        "title": _title(runs),
        "several": several,
        "ages": figures.chart(ages_chart(runs), "", None),
        "overview": overview,
        "overview_scores": [
            m for m in (*_EARLIER, *MAIN_COLUMNS) if any(row["last"].get(m) is not None for row in overview)
        ],
        "overview_earlier": [m for m in ("ES", "S") if any(row["earlier"].get(m) is not None for row in overview)],
        "comparison": _comparison(comparison, figures),
        "runs": shown,
        "with_changes": any(run["tasks"] for run in shown),
        "abbreviations": _abbreviations(shown, comparison),
        "few": FEW,
        "most": MOST_ROWS,
    }


def _title(runs: Mapping[str, Summary]) -> str:
    """A run's own title; of several runs one that names them all."""
    titles = {name: str(run.get("title") or "") for name, run in runs.items()}
    if len(runs) == 1:
        return next(iter(titles.values())) or "Sequential edits"
    if len(set(titles.values())) == 1:
        return f"{next(iter(titles.values())) or 'Sequential edits'}: {', '.join(titles)}"
    named = [title if name.lower() in title.lower() else f"{title}: {name}" if title else name
             for name, title in titles.items()]  # fmt: skip
    return ", ".join(named)


ABBREVIATIONS = {
    "ES": "efficacy, the new answer is likelier than the true one",
    "PS": "the same for paraphrases",
    "NS": "the true answer is likelier for neighbours",
    "S": "harmonic mean of ES, PS and NS",
    "EM": "the new answer is the model's own",
    "PM": "the same for paraphrases",
    "NM": "the true answer is the model's own for neighbours",
    "ET": "tokens of the new answer that are the model's own",
    "PT": "the same for paraphrases",
    "NT": "the same for neighbours",
    "portability": "tokens of what follows from the edit that are the model's own",
    "portability_exact": "whole answers of these",
    "locality": "tokens of other answers that are the unedited model's too",
    "locality_kept": "other answers known before that are still given",
    "GE": "generation entropy",
    "RS": "similarity of generated texts to reference texts",
}
"""Score -> what it is, for the page's foot."""


def _abbreviations(runs: Sequence[Mapping[str, Any]], comparison: Sequence[ComparisonRow]) -> dict[str, str]:
    """Those of the page's own tables and plots."""
    shown = {name for run in runs for name in (*run["scores"], *run["earlier"])}
    shown |= {name for run in runs if run["probes"] for name in run["probes"]["columns"]}
    shown |= {title for run in runs for title in run["plotted"]}
    shown |= set(columns(comparison))
    shown |= {run["forgetting_metric"] for run in runs if run["forgetting"] or run["curve"]}
    return {name: text for name, text in ABBREVIATIONS.items() if name in shown}


def _overview(name: str, slug: str, run: Summary) -> dict[str, Any]:
    """The state in force at the end in one row."""
    steps = run.get("steps") or []
    found, current = standing_step(steps)
    last = found or {}
    return {
        "step": last.get("step"),
        "current": current,
        "at_end": not steps or last.get("step") == steps[-1].get("step"),
        "in_force": facts_in_force(steps),
        "name": name,
        "slug": slug,
        "steps": len(steps),
        "requests": facts_edited(steps),
        "last": _fractions(last),
        "earlier": _fractions(last.get("earlier") or {}),
        "seconds": sum(float(step.get("seconds") or 0) for step in steps),
        "half_life": half_life_of(run),
        "collapse": collapse_of(run),
        "gated": any(step.get("gates") for step in steps),
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
                {"value": c.value, "low": c.low, "high": c.high, "digits": digits_of(name)}
                for name, c in zip(names, cells, strict=True)
            ],
        }
        for row, cells in shown
    ]
    return {
        "names": names,
        "rows": table,
        "notes": any(row.note for row in rows),
        "missing": missing_notes(rows),
        "figure": figures.add(plot_comparison(rows), "comparison", caption),
    }


def _run_view(name: str, slug: str, run: Summary, figures: Figures, prefix: str) -> dict[str, Any]:
    steps = [dict(step) for step in run.get("steps") or []]
    metrics = {task: plotted_metric(entry) for step in steps for task, entry in (step.get("tasks") or {}).items()}
    states, became = entry_states(steps), fact_states(steps)
    for step, of_facts in zip(steps, became, strict=True):
        step["tasks"] = {task: _task_view(entry) for task, entry in (step.get("tasks") or {}).items()}
        step["earlier"] = _fractions(step.get("earlier") or {})
        step |= _fractions(step)
        step["state"] = states.get(step.get("step"), "")
        step["gone"] = bool(step["state"]) and not step["state"].startswith("in force")
        step["in_force"] = step_facts_in_force(step)
        step["gates"] = [gate_view(gate) for gate in step.get("gates") or []]
        step["tripped"] = any(gate["tripped"] for gate in step["gates"])
        step["perplexity"] = (step.get("drift") or {}).get("perplexity", step.get("perplexity"))
        spent = {part: value for part, value in (step.get("timings") or {}).items() if part != "edit"}
        step["evals"] = sum(spent.values()) if spent else None
        step["drift"] = {**{key: step.get(key) for key in DRIFTS}, **(step.get("drift") or {})}
        step["diagnosis"] = diagnosis_view(step.get("diagnosis"), step.get("facts") or [])
        step["facts"] = [_fact_view(fact, state) for fact, state in zip(step.get("facts") or [], of_facts, strict=True)]
    metric = run.get("forgetting_metric") or "ES"
    matrix = run.get("forgetting") or []
    if all(value is None for row in matrix for value in row):
        matrix = []
    made = charts_of(run)
    charts = [figures.chart(chart, prefix, slug) for chart in made]
    caption = f"{metric} of every batch at every later step, in percent."
    live = {"kind": "heat", "run": slug, "title": f"{metric} of every batch over time", "caption": caption,
            "over": "step", "metric": metric, "cells": matrix,
            "steps": [step.get("step") for step in steps] if len(steps) == len(matrix) else None,
            "collapse": collapse_of(run).get(f"earlier.{metric}")}  # fmt: skip
    # Of one step's batch the timeline tells the same.
    known = sum(any(value is not None for value in row) for row in matrix)
    drawn = plot_forgetting_matrix(run) if known > 1 else None
    heat = figures.add(drawn, f"{prefix}forgetting_matrix", caption, live)
    placed = [*charts[:2], heat, *charts[2:]] if heat else charts
    facts = [(step, fact) for step in steps for fact in step["facts"]]
    diagnosis = [step["diagnosis"] for step in steps if step["diagnosis"]]
    columns_of_diagnosis = {k: c for k, c in DIAGNOSIS.items() if any(d.get(k) is not None for d in diagnosis)}
    told = [text for _, _, text in columns_of_diagnosis.values() if text]
    fact_columns = {k: t for k, t in _FACT_COLUMNS.items() if any(fact.get(k) for _, fact in facts)}
    answered = ", and what the model answered " if any(key in fact_columns for key in _ANSWERS) else ""
    answers = [text for key, text in _ANSWERS.items() if key in fact_columns]
    points = curve_points(run)
    return {
        "diagnosis_caption": f"How each batch went into the weights; of several layers the worst. {'. '.join(told)}.",
        "facts_caption": f"What was asked for{answered}{' and '.join(answers)}.",
        "name": name,
        "slug": slug,
        "prefix": prefix,
        "plotted": [panel.title for chart in made if chart.name == "scores" for panel in chart.panels],
        "description": _description(run),
        "overview": _overview(name, slug, run),
        "stopped": run.get("stopped"),
        "skipped": run.get("skipped") or [],
        "baseline": _baseline(run),
        "at_chance": _at_chance(run),
        "steps": steps,
        "operations": list(dict.fromkeys(str(step["operation"]) for step in steps if step.get("operation"))),
        "tasks": metrics,
        "with_previous": any(task["previous"] for step in steps for task in step["tasks"].values()),
        "scores": [m for m in _TIMELINE if any(step.get(m) is not None for step in steps)],
        "earlier": [m for m in _EARLIER if any(step["earlier"].get(m) is not None for step in steps)],
        "probes": probe_view(steps),
        "drifts": {k: title for k, title in DRIFTS.items() if any(step["drift"][k] is not None for step in steps)},
        "drifted": [step for step in steps if any(value is not None for value in step["drift"].values())],
        "timings": parts_of(steps),
        "with_evals": any(step["evals"] is not None for step in steps),
        "with_perplexity": any(step["perplexity"] is not None for step in steps),
        "diagnosis": columns_of_diagnosis,
        "with_diagnosis": bool(diagnosis),
        "interference": [step for step in steps if step.get("interference")],
        "losses": run.get("losses"),
        "lost": [(step, fact) for step, fact in facts if fact.get("lost_at")],
        "with_warnings": any(step["diagnosis"] and step["diagnosis"]["warnings"] for step in steps),
        "with_gates": any(step["gates"] for step in steps),
        "with_state": any(step.get("operation") for step in steps),
        "forgetting": matrix if len(matrix) <= _TABLE_STEPS else [],
        "forgetting_left_out": sum(v is not None for row in matrix for v in row) if len(matrix) > _TABLE_STEPS else 0,
        "forgetting_metric": metric,
        "forgetting_steps": live["steps"] or list(range(1, len(matrix) + 1)),
        "curve": points,
        "few_batches": any(int(point.get("count") or FEW) < FEW for point in points),
        "facts": facts,
        "fact_columns": fact_columns,
        "figures": placed,
    }


def _fractions(scores: Summary) -> dict[str, Any]:
    """Scores that came as whole numbers (100) read like the others of their column (100.0)."""
    return {k: float(v) if (k in SCORES or is_column(k)) and isinstance(v, int) else v for k, v in scores.items()}


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


def _fact_view(fact: Mapping[str, Any], state: str) -> dict[str, Any]:
    prompt = str(fact.get("prompt") or "–").replace("{}", str(fact.get("subject") or "{}"))
    correct = fact.get("argmax_correct")
    answer = "" if correct is None else "learnt" if correct else "not learnt"
    gone = bool(state) and not state.startswith("in force")
    return {**fact, "prompt": prompt, "learnt": answer, "state": state, "gone": gone}


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
    return [(key, plain(value)) for key, value in rows if value is not None]


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
