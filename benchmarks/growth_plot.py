"""Cost against size, drawn on logarithmic axes, and the exponent of its growth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

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


def draw(costs: Mapping[str, Costs], file: Path) -> None:
    """Draw what operations cost.

    Args:
        costs: Operation -> number of entries (or adapters) -> seconds.
        file: PNG to write.
    """
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(13, 5.4), constrained_layout=True)
    for axis, (title, names) in zip(axes, PANELS.items(), strict=True):
        for name in names:
            if name in costs:
                sizes = sorted(costs[name])
                label, k = name, exponent(costs[name])
                if k is not None:
                    label += f"  (~n^{k:.1f})"
                axis.plot(sizes, [costs[name][size] * 1e3 for size in sizes], marker="o", label=label)
        if title != "reading the objects":
            axis.axhline(200, color="0.6", linestyle=":", label="200 ms")
        axis.set(xscale="log", yscale="log", title=title, xlabel="entries", ylabel="processor time, ms")
        axis.grid(True, which="major", alpha=0.3)
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
