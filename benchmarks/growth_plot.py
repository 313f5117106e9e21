"""Cost against size, drawn on logarithmic axes, and the exponent of its growth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from benchmarks.plots import cost_line, logarithmic
from evals.report.figures import INK, blank_figure, write_png

Costs = Mapping[int, float]

PANELS = {
    "reading the database": (
        "log, all entries", "log, all entries, as for --json", "log, all entries, without scores", "log -n 20",
        "active", "live requests", "resolve HEAD~n",
    ),
    "one entry": ("blame, all branches", "blame, one branch", "append"),
    "reading the objects": ("compose", "compose from snapshot", "verify --shallow"),
}  # fmt: skip


def exponent(costs: Costs) -> float | None:
    """k of cost ~ size^k between the two largest sizes; None where there are not two."""
    if len(costs) < 2:
        return None
    small, large = sorted(costs)[-2:]
    return math.log(costs[large] / costs[small]) / math.log(large / small)


def draw(costs: Mapping[str, Costs], file: Path, *, quick: bool = False) -> None:
    """Draw what operations cost.

    Args:
        costs: Operation -> number of entries (or adapters) -> seconds.
        file: PNG to write.
        quick: Whether the sizes are those of a quick run, of which no exponent is drawn.
    """
    figure = blank_figure(13, 5.4)
    for axes, (title, names) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for index, name in enumerate(names):
            if name in costs:
                cost_line(axes, costs[name], name, index, scale=1e3, quick=quick)
        if title != "reading the objects":
            axes.axhline(200, color=INK, alpha=0.5, linestyle=":", label="200 ms")
        logarithmic(axes, "entries", "processor time, ms", title)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False, labelcolor=INK)
    write_png(figure, file)
