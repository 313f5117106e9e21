"""The comparison as a picture: one panel for each score, a point with its interval for each method."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from evals.report.comparison import Cell, ComparisonRow, columns
from evals.report.figures import COLORS, INK, blank_figure, quiet_axes
from evals.scores.probes import MAIN_COLUMNS, is_column
from seqedit.support.printable import one_line


def plot_comparison(rows: Sequence[ComparisonRow]) -> Figure:
    """Panels side by side that share the methods' axis; methods from top to bottom as in the table."""
    # Of portability and locality the columns over all kinds: a file may have dozens of kinds.
    names = [name for name in columns(rows) if name in MAIN_COLUMNS or not is_column(name)]
    figure = blank_figure(1.8 + 1.75 * len(names), 1.2 + 0.3 * len(rows))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        axes = quiet_axes(panel)
        axes.grid(True, axis="x", color=INK, linewidth=0.6, alpha=0.15)
        for place, row in enumerate(rows):
            cell = row.cells.get(name, Cell(None))
            if cell.value is None:
                continue
            color = INK if row.seconds_per_edit is None else COLORS[0]
            if cell.low is not None and cell.high is not None:
                axes.plot([cell.low, cell.high], [place, place], color=color, linewidth=1.6, alpha=0.55)
            axes.plot([cell.value], [place], marker="o", color=color, markersize=5)
        axes.set_title(name, color=INK, fontsize=10)
        if name in ("S", "ES", "PS", "NS", *MAIN_COLUMNS):
            axes.set_xlim(-3, 103)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(rows)), [one_line(row.label) for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure
