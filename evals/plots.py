"""The plots of a run: forgetting, scores per step, and damage on tasks.

Every function takes the summary of one run or of several by name (see `evals.report`) and returns a figure,
or None where the summary has nothing to plot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from evals.figures import (
    COLORS,
    INK,
    MARKERS,
    blank_figure,
    label,
    legend,
    new_figure,
    quiet_axes,
    step_ticks,
)
from evals.forgetting import forgetting_curve

Summary = Mapping[str, Any]


def plot_forgetting_matrix(summary: Summary) -> Figure | None:
    """Heat map of F: rows are steps in time, columns the batches by the step they were made at."""
    matrix = summary.get("forgetting") or []
    if not any(value is not None for row in matrix for value in row):
        return None
    size = len(matrix)
    cells = np.full((size, size), np.nan)
    for step, row in enumerate(matrix):
        for batch, value in enumerate(row[:size]):
            if value is not None:
                cells[step, batch] = value
    metric = summary.get("forgetting_metric") or "ES"
    side = min(5.8, max(3.4, 0.42 * size + 2.0))
    figure, axes = new_figure(side + 1.0, side)
    axes.grid(False)
    edges = np.arange(size + 1) + 0.5
    image = axes.pcolormesh(
        edges, edges, np.ma.masked_invalid(cells), vmin=0, vmax=100, cmap="cividis", edgecolors="none"
    )
    axes.invert_yaxis()
    axes.set_aspect("equal")
    steps = list(range(1, size + 1))
    step_ticks(axes, steps)
    step_ticks(axes, steps, vertical=True)
    if size <= 12:
        for step, batch in zip(*np.where(~np.isnan(cells)), strict=True):
            value = cells[step, batch]
            axes.text(
                batch + 1,
                step + 1,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="#ffffff" if value < 55 else "#000000",
            )
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(f"{metric}, %", color=INK, fontsize=10)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]
    label(axes, "edits made at step", "measured at step", f"{metric} of every batch over time")
    return figure


def plot_forgetting_curves(runs: Mapping[str, Summary]) -> Figure | None:
    """Mean score by age of the edits, one line per run, with the 95 % interval over batches as a band."""
    figure, axes = new_figure()
    drawn = False
    ages: set[int] = set()
    for index, (name, summary) in enumerate(runs.items()):
        points = curve_points(summary)
        if not points:
            continue
        drawn = True
        color, x = COLORS[index % len(COLORS)], [point["age"] for point in points]
        ages.update(x)
        axes.plot(
            x,
            [point["mean"] for point in points],
            color=color,
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            label=name if len(runs) > 1 else None,
        )
        banded = [point for point in points if point.get("ci_low") is not None]
        if banded:
            axes.fill_between(
                [point["age"] for point in banded],
                [point["ci_low"] for point in banded],
                [point["ci_high"] for point in banded],
                color=color,
                alpha=0.18,
                linewidth=0,
            )
    if not drawn:
        return None
    metric = next(iter(runs.values())).get("forgetting_metric") or "ES"
    axes.set_ylim(-2, 102)
    step_ticks(axes, sorted(ages))
    label(axes, "age of the edits, steps", f"{metric}, %", "What is left of edits as they age")
    legend(axes)
    return figure


def plot_scores(summary: Summary, metric: str = "S") -> Figure | None:
    """Score of the newest batch and of all earlier edits at every step."""
    steps = summary.get("steps") or []
    new = _series(steps, lambda step: step.get(metric))
    earlier = _series(steps, lambda step: (step.get("earlier") or {}).get(metric))
    if not new[0] and not earlier[0]:
        return None
    figure, axes = new_figure()
    for index, (name, (x, y)) in enumerate((("newest batch", new), ("all earlier edits", earlier))):
        if x:
            axes.plot(x, y, color=COLORS[index], marker=MARKERS[index], markersize=4, label=name)
    axes.set_ylim(-2, 102)
    step_ticks(axes, sorted({*new[0], *earlier[0]}))
    label(axes, "step", f"{metric}, %", f"{metric} of new and earlier edits")
    legend(axes)
    return figure


def plot_task_changes(summary: Summary) -> Figure | None:
    """Change of every task's main metric against the unedited model, a panel per task on one scale.

    The 95 % interval is a band: where it leaves out 0, the change is more than chance.
    """
    steps = summary.get("steps") or []
    names = dict.fromkeys(name for step in steps for name in (step.get("tasks") or {}))
    series = {name: rows for name in names if (rows := _changes(steps, name))}
    if not series:
        return None
    columns = min(2, len(series))
    lines = -(-len(series) // columns)
    figure = blank_figure(7.2, 0.5 + 2.3 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for index, (name, rows) in enumerate(series.items()):
        axes, color = quiet_axes(panels[index]), COLORS[index % len(COLORS)]
        axes.axhline(0, color=INK, linewidth=0.8)
        x = [number for number, _ in rows]
        axes.plot(x, [task["change"] for _, task in rows], color=color, marker="o", markersize=3.5)
        banded = [(n, t) for n, t in rows if t.get("ci_low") is not None and t.get("ci_high") is not None]
        axes.fill_between(
            [n for n, _ in banded],
            [t["ci_low"] for _, t in banded],
            [t["ci_high"] for _, t in banded],
            color=color,
            alpha=0.2,
            linewidth=0,
        )
        step_ticks(axes, sorted({number for rows in series.values() for number, _ in rows}))
        label(axes, "", "", f"{name} ({main_metric(rows[0][1])})")
        # Shared ticks are labelled on the last row only; a panel above a gap would have none.
        axes.tick_params(labelbottom=index + columns >= len(series))
    for unused in panels[len(series) :]:
        unused.set_visible(False)
    figure.supxlabel("step", color=INK, fontsize=10)
    figure.supylabel("change against the unedited model", color=INK, fontsize=10)
    return figure


def curve_points(summary: Summary) -> list[dict[str, Any]]:
    """The forgetting curve of a run as dictionaries: as given, or else from the matrix."""
    given = summary.get("forgetting_curve")
    if given:
        return [dict(point) if isinstance(point, Mapping) else point.to_dict() for point in given]
    return [point.to_dict() for point in forgetting_curve(summary.get("forgetting") or [])]


def main_metric(task: Mapping[str, Any]) -> str:
    """Name of the metric that a task's entry is about: named by the entry, or its first field."""
    return str(task.get("metric") or next(iter(task), ""))


def _series(steps: Sequence[Summary], get: Any) -> tuple[list[int], list[float]]:
    rows = [(int(step["step"]), value) for step in steps if (value := get(step)) is not None]
    return [number for number, _ in rows], [value for _, value in rows]


def _changes(steps: Sequence[Summary], name: str) -> list[tuple[int, Mapping[str, Any]]]:
    """(step, entry of the task) for the steps that measured a change."""
    entries = ((int(step["step"]), (step.get("tasks") or {}).get(name) or {}) for step in steps)
    return [(number, entry) for number, entry in entries if entry.get("change") is not None]
