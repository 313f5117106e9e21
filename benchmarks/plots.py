"""A part's rows as curves: what is measured against what was varied, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from benchmarks.figures import fitted_exponent
from evals.report.figures import COLORS, INK, MARKERS, blank_figure, label, quiet_axes, write_png

FEWEST_SIZES = 3
"""A line goes through any two points: an exponent is drawn from three sizes on."""


def drawn_exponent(costs: Mapping[int, float], quick: bool = False) -> float | None:
    """`fitted_exponent` as far as a picture may say it: not of fewer than three sizes, nor of a quick run."""
    return None if quick or len(costs) < FEWEST_SIZES else fitted_exponent(costs)


def cost_line(
    axes: Axes, costs: Mapping[int, float], name: str, index: int, *, scale: float = 1.0, quick: bool = False
) -> None:
    """A line of costs over sizes in the style of the report, with its exponent in the legend where one may be drawn.

    Args:
        axes: Where.
        costs: Size -> cost.
        name: What it is.
        index: Its place among the lines, for colour and marker.
        scale: What costs are multiplied with.
        quick: Whether the sizes are those of a quick run.
    """
    k = drawn_exponent(costs, quick) if all(isinstance(x, int) for x in costs) else None
    sizes = sorted(costs)
    axes.plot(
        sizes, [scale * costs[x] for x in sizes], color=COLORS[index % len(COLORS)],
        marker=MARKERS[index % len(MARKERS)], markersize=4, linewidth=1.5,
        linestyle="-" if index < len(COLORS) else "--", label=name if k is None else f"{name} (~n^{k:.2f})",
    )  # fmt: skip


def logarithmic(axes: Axes, x: str, y: str, title: str) -> None:
    """Logarithmic axes in the style of the report."""
    axes.set(xscale="log", yscale="log")
    quiet_axes(axes)
    axes.grid(True, axis="x", color=INK, linewidth=0.6, alpha=0.15)
    axes.minorticks_off()
    label(axes, x, y, title)


@dataclass(frozen=True)
class Plot:
    """How a part's ``sizes`` are drawn.

    Attributes:
        x: Key of what was varied.
        y: Keys of the costs -> what they are called.
        by: Keys that tell the panels apart.
        label: What the vertical axis says.
    """

    x: str
    y: Mapping[str, str] = field(default_factory=lambda: {"cpu_seconds": "seqedit", "baseline_cpu_seconds": "baseline"})
    by: tuple[str, ...] = ()
    label: str = "processor time, s"

    def draw(self, figures: Mapping[str, Any], file: Path) -> None:
        """Draw the figures of a part.

        Args:
            figures: What the part returned; its ``sizes`` are rows with the keys above, rows without them are left out.
            file: PNG to write.
        """
        panels: dict[str, list[Mapping[str, Any]]] = {}
        for row in figures["sizes"]:
            if self.x in row:
                title = ", ".join(f"{key} {row[key]}" for key in self.by if key in row)
                panels.setdefault(title, []).append(row)
        number = max(1, len(panels))
        figure = blank_figure(1.5 + 3.8 * number, 3.8)
        grid = figure.subplots(1, number, squeeze=False)[0]
        for axes, (title, rows) in zip(grid, panels.items(), strict=False):
            for index, (key, name) in enumerate(self.y.items()):
                costs = {row[self.x]: row[key] for row in rows if row.get(key)}
                if costs:
                    cost_line(axes, costs, name, index, quick=bool(figures.get("quick")))
            logarithmic(axes, self.x.replace("_", " "), self.label, title)
            if all(isinstance(row[self.x], int) for row in rows):
                measured = sorted({row[self.x] for row in rows})
                axes.set_xticks(measured, [f"{x:,}" for x in measured])
                axes.xaxis.set_minor_locator(NullLocator())
            if axes.lines:
                axes.legend(fontsize=8, frameon=False, labelcolor=INK)
        write_png(figure, file)
