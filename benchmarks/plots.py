"""A part's rows as curves: what is measured against what was varied, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import NullLocator

from benchmarks.figures import fitted_exponent


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
        shape, (first, *rest) = pyplot.subplots(1, number, figsize=(1.5 + 3.8 * number, 3.8), squeeze=False)
        del rest
        for axis, (title, rows) in zip(first, panels.items(), strict=False):
            for key, name in self.y.items():
                costs = {row[self.x]: row[key] for row in rows if row.get(key)}
                if not costs:
                    continue
                k = fitted_exponent(costs) if all(isinstance(x, int) for x in costs) else None
                xs = sorted(costs)
                axis.plot(xs, [costs[x] for x in xs], marker="o", label=name if k is None else f"{name} (~n^{k:.2f})")
            axis.set(xscale="log", yscale="log", title=title, xlabel=self.x.replace("_", " "), ylabel=self.label)
            if all(isinstance(row[self.x], int) for row in rows):
                measured = sorted({row[self.x] for row in rows})
                axis.set_xticks(measured, [f"{x:,}" for x in measured])
                axis.xaxis.set_minor_locator(NullLocator())
            axis.grid(True, which="major", alpha=0.3)
            if axis.lines:
                axis.legend(fontsize=8)
        shape.tight_layout()
        shape.savefig(file, dpi=110)
        pyplot.close(shape)
