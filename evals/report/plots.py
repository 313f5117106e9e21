"""The plots of a run, drawn by matplotlib: forgetting, scores per step, damage on tasks, drift and time.

What a chart shows is decided in `evals.report.charts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from evals.report.charts import Chart, Mark, Panel, Series, collapse_of
from evals.report.figures import COLORS, INK, MARKERS, blank_figure, label, new_figure, quiet_axes, step_ticks

Summary = Mapping[str, Any]


def plot_chart(chart: Chart | None) -> Figure | None:
    """A chart as it is before the reader changes it; None stays None."""
    if chart is None:
        return None
    panels = [panel for panel in chart.panels if panel.shown]
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = blank_figure(7.2, 3.4 if len(panels) == 1 else 0.8 + 2.1 * lines)
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False).flatten()
    names = list(dict.fromkeys(s.name for panel in panels for s in panel.series if s.shown))
    steps = sorted({x for panel in panels for s in panel.series if s.shown for x in s.x})
    for index, panel in enumerate(panels):
        axes = quiet_axes(grid[index])
        _draw(axes, panel, chart.kind, names)
        if chart.kind == "many":
            _ramp(figure, axes, [series.name for series in panel.series if series.shown])
        step_ticks(axes, steps, most=10 * (3 - columns))
        _counts(axes, panel)
        if panel.title:
            axes.set_title(panel.title, color=INK, fontsize=10, loc="left")
        # Shared ticks are labelled on the last row only; a panel above a gap would have none.
        axes.tick_params(labelbottom=index + columns >= len(panels))
    for unused in grid[len(panels) :]:
        unused.set_visible(False)
    figure.supxlabel(chart.x_label, color=INK, fontsize=10)
    figure.supylabel(chart.y_label, color=INK, fontsize=10)
    figure.suptitle(chart.title, color=INK, fontsize=11, x=0.02, ha="left")
    if chart.kind != "many" and len(names) > 1:
        handles = {h_name: h for axes in grid for h, h_name in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower left", ncols=min(4, len(handles)), frameon=False,
            fontsize=9, labelcolor=INK,
        )  # fmt: skip
    return figure


def _draw(axes: Axes, panel: Panel, kind: str, names: Sequence[str]) -> None:
    shown = [series for series in panel.series if series.shown]
    if panel.reference is not None:
        axes.axhline(panel.reference, color=INK, linewidth=0.8)
    if kind == "stack":
        _stack(axes, shown, names)
    elif kind == "many":
        ramp = colormaps["cividis"](np.linspace(0.15, 0.9, len(shown)))
        for series, color in zip(shown, ramp, strict=True):
            axes.plot(series.x, series.y, color=color, linewidth=1.1, alpha=0.85)
    else:
        for series in shown:
            _line(axes, series, names.index(series.name))
    for mark in panel.marks:
        _mark(axes, mark)
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)


def _line(axes: Axes, series: Series, index: int) -> None:
    color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
    size, sure = 4 if len(series.x) <= 40 else 0, series.solid
    axes.plot(
        series.x[:sure], series.y[:sure], color=color, marker=marker, markersize=size, linewidth=1.5, label=series.name
    )  # fmt: skip
    if sure < len(series.x):
        start = max(0, sure - 1)
        axes.plot(series.x[start:], series.y[start:], color=color, linewidth=1.2, linestyle=(0, (3, 3)), alpha=0.8)
        axes.plot(
            series.x[sure:], series.y[sure:], color=color, marker=marker, markersize=4, linestyle="none",
            markerfacecolor="none",
        )  # fmt: skip
    ends = [
        (x, low, high)
        for x, low, high in zip(series.x[:sure], series.low, series.high, strict=False)
        if low is not None and high is not None
    ]
    if ends:
        axes.fill_between(*zip(*ends, strict=True), color=color, alpha=0.18, linewidth=0)  # type: ignore[arg-type]


def _counts(axes: Axes, panel: Panel) -> None:
    """Under every tick how many batches its points are means of; of several runs the smallest number."""
    counts: dict[int, int] = {}
    for series in panel.series:
        for x, count in zip(series.x, series.counts, strict=False):
            counts[x] = min(count, counts.get(x, count))
    if counts:
        at = [int(x) for x in axes.get_xticks()]
        axes.set_xticks(at, [f"{x}\nn {counts[x]}" if x in counts else str(x) for x in at])


def _ramp(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    """The legend of lines that are too many to name: a bar of their colours, from the first to the last."""
    colors = ListedColormap(colormaps["cividis"](np.linspace(0.15, 0.9, max(2, len(names)))))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), colors), ax=axes, shrink=0.8, ticks=[0, 1])
    bar.ax.set_yticklabels([names[0], names[-1]])
    bar.ax.tick_params(colors=INK, labelsize=9, length=0)
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)  # type: ignore[operator]


def _stack(axes: Axes, shown: Sequence[Series], names: Sequence[str]) -> None:
    below: dict[int, float] = {}
    for series in shown:
        index = names.index(series.name)
        axes.bar(
            series.x, series.y, bottom=[below.get(x, 0.0) for x in series.x], width=0.75, label=series.name,
            color=COLORS[index % len(COLORS)], hatch=None if index < len(COLORS) else "///",
        )  # fmt: skip
        for x, y in zip(series.x, series.y, strict=True):
            below[x] = below.get(x, 0.0) + y


def _mark(axes: Axes, mark: Mark) -> None:
    if mark.low is not None and mark.high is not None and mark.high > mark.low:
        axes.axvspan(mark.low, mark.high, color=INK, alpha=0.08, linewidth=0)
    axes.axvline(mark.x, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        mark.label, (mark.x, 0.04), xycoords=("data", "axes fraction"), xytext=(-3, 0), textcoords="offset points",
        rotation=90, ha="right", va="bottom", fontsize=8, color=INK,
    )  # fmt: skip


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
        edges, edges, np.ma.masked_invalid(cells), vmin=0, vmax=100, cmap="cividis", edgecolors="none",
        rasterized=size > 20,  # thousands of cells as shapes are a heavy page
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_aspect("equal")
    steps = list(range(1, size + 1))
    step_ticks(axes, steps)
    step_ticks(axes, steps, vertical=True)
    if size <= 12:
        for step, batch in zip(*np.where(~np.isnan(cells)), strict=True):
            value = cells[step, batch]
            axes.text(
                batch + 1, step + 1, f"{value:.0f}", ha="center", va="center", fontsize=8,
                color="#ffffff" if value < 55 else "#000000",
            )  # fmt: skip
    found = collapse_of(summary).get(f"earlier.{metric}")
    if found:
        axes.axhline(found["step"] - 0.5, color=INK, linewidth=1, linestyle="--")
        axes.text(
            size + 0.5, found["step"] - 0.6, f"collapse from step {found['step']}", ha="right", va="bottom", fontsize=8,
            color=INK,
        )  # fmt: skip
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(f"{metric}, %", color=INK, fontsize=10)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]
    label(axes, "edits made at step", "measured at step", f"{metric} of every batch over time")
    return figure
