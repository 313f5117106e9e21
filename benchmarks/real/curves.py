"""What the methods' runs say together: one picture of curves, one table of the last states."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.real.lane import VARIANTS
from evals.report.charts import Chart, Panel, Series
from evals.report.figures import write_png
from evals.report.plots import plot_chart

SCORES = ("ES", "EM", "PS", "NS", "S")
Step = Mapping[str, Any]
Point = tuple[float, float | None, float | None]


def read_summaries(out: Path) -> dict[str, dict[str, Any]]:
    """Folder's name -> summary of every run under a folder, in the order of the variants."""
    found = {}
    order = [label.replace(" ", "-") for label in VARIANTS]
    for file in sorted(out.glob("*/summary.json"), key=lambda f: order.index(f.parent.name)):
        summary = json.loads(file.read_text("utf-8"))
        final = file.parent / "final.json"
        known = json.loads(final.read_text("utf-8")) if final.is_file() else {}
        summary["unedited_perplexity"] = known.get("unedited_perplexity")
        found[file.parent.name] = summary
    return found


def study_chart(summaries: Mapping[str, Mapping[str, Any]]) -> Chart:
    """New edits, earlier edits, neighbours, perplexity and tasks over the steps, a line for every method."""
    first = next(iter(summaries.values()))
    unedited = first["baseline"]
    panels = [
        _panel("ES of earlier edits, %", summaries, lambda s: _score(s["earlier"], "ES"), (-2.0, 102.0)),
        _panel("EM of earlier edits, %", summaries, lambda s: _score(s["earlier"], "EM"), (-2.0, 102.0)),
        _panel("PS of earlier edits, %", summaries, lambda s: _score(s["earlier"], "PS"), (-2.0, 102.0)),
        _panel("NS of earlier edits, %", summaries, lambda s: _score(s["earlier"], "NS"), (-2.0, 102.0),
               (unedited.get("counterfact") or {}).get("NS")),
        _panel("S of the new batch, %", summaries, lambda s: _score(s, "S"), (-2.0, 102.0)),
        _panel("perplexity", summaries, _perplexity, None, _unedited_perplexity(summaries)),
    ]  # fmt: skip
    for name in _task_names(summaries):
        metric = next(row["metric"] for s in summaries.values() for t in s["steps"] if (row := t["tasks"].get(name)))
        panels.append(_panel(f"{name}: change of {metric}", summaries, _task(name), None, 0.0))
    facts = max(sum(step["requests"] for step in s["steps"]) for s in summaries.values())
    return Chart(
        "study", f"{facts} real facts in sequence on SmolLM2-135M-Instruct, by step",
        "Scores of earlier edits, of the new batch, perplexity and tasks after every step; lines: the unedited model.",
        "", "", panels,
    )  # fmt: skip


def forgetting_chart(summaries: Mapping[str, Mapping[str, Any]]) -> Chart:
    """What is left of earlier edits and of their neighbours, step by step: the one picture of forgetting."""
    unedited = (next(iter(summaries.values()))["baseline"].get("counterfact") or {}).get("NS")
    panels = [
        _panel("first choice is still the new answer (EM), %", summaries, lambda s: _score(s["earlier"], "EM"),
               (-2.0, 102.0)),
        _panel("neighbours are left alone (NS), %", summaries, lambda s: _score(s["earlier"], "NS"), (-2.0, 102.0),
               unedited),
    ]  # fmt: skip
    return Chart(
        "forgetting", "Earlier edits of a real model after each further batch of 16 facts",
        "EM and NS of earlier edits after every step; line: the unedited model.", "", "", panels,
    )  # fmt: skip


def write_curves(out: Path) -> tuple[Path, Path]:
    """``study.png`` and ``study.md`` beside the runs, and ``forgetting.png``, which shows the main part of it."""
    summaries = read_summaries(out)
    part = plot_chart(forgetting_chart(summaries))
    assert part is not None
    write_png(part, out / "forgetting.png")
    figure = plot_chart(study_chart(summaries))
    assert figure is not None
    picture = write_png(figure, out / "study.png")
    table = out / "study.md"
    table.write_text(study_table(out, summaries), "utf-8")
    return picture, table


def study_table(out: Path, summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """A line a method: all facts on the last state, with 95 % intervals; tasks as change to the unedited model."""
    tasks = _task_names(summaries)
    head = ["method", *SCORES, "perplexity", *tasks, "s / edit"]
    lines = [_line(head), "|---|" + "---:|" * (len(head) - 1)]
    text = _unedited_perplexity(summaries)
    lines.append(_line(["unedited", *_scores(out / "unedited.json"), _number(text), *("0" for _ in tasks), "-"]))
    for label, summary in summaries.items():
        final, last = out / label / "final.json", summary["steps"][-1]
        if not final.is_file():
            continue
        rows = [last["tasks"].get(name) for name in tasks]
        changes = ["-" if r is None else f"{r['change']:+.3f} [{r['ci_low']:+.3f}, {r['ci_high']:+.3f}]" for r in rows]
        known = json.loads(final.read_text("utf-8"))
        seconds = f"{known['edit_seconds'] / known['facts']:.1f}"
        name = label.replace("-", " ")
        lines.append(_line([name, *_scores(final), _number(last["drift"].get("perplexity")), *changes, seconds]))
    return "\n".join(lines) + "\n"


def _unedited_perplexity(summaries: Mapping[str, Mapping[str, Any]]) -> float | None:
    return next((s["unedited_perplexity"] for s in summaries.values() if s["unedited_perplexity"] is not None), None)


def _scores(file: Path) -> list[str]:
    known = json.loads(file.read_text("utf-8"))
    found = []
    for name in SCORES:
        low, high = known["intervals"][name]
        found.append(f"{known['scores'][name]:.1f} [{low:.1f}, {high:.1f}]")
    return found


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _task_names(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for s in summaries.values() for step in s["steps"] for name in step["tasks"]))


def _panel(
    title: str, summaries: Mapping[str, Mapping[str, Any]], point: Callable[[Step], Point | None],
    limits: tuple[float, float] | None = None, reference: float | None = None,
) -> Panel:  # fmt: skip
    series = []
    for label, summary in summaries.items():
        found = [(step["step"], at) for step in summary["steps"] if (at := point(step)) is not None]
        series.append(
            Series(
                label.replace("-", " "), [x for x, _ in found], [at[0] for _, at in found],
                [at[1] for _, at in found], [at[2] for _, at in found],
            )
        )  # fmt: skip
    return Panel(title, series, limits, reference)


def _score(scores: Mapping[str, Any] | None, name: str) -> Point | None:
    if scores is None or scores.get(name) is None:
        return None
    low, high = (scores.get("intervals") or {}).get(name) or (None, None)
    return scores[name], low, high


def _perplexity(step: Step) -> Point | None:
    value = step["drift"].get("perplexity")
    return None if value is None else (value, None, None)


def _task(name: str) -> Callable[[Step], Point | None]:
    def point(step: Step) -> Point | None:
        row = step["tasks"].get(name)
        return None if row is None or row.get("change") is None else (row["change"], row["ci_low"], row["ci_high"])

    return point
