"""The picture of a causal trace: average effects by class of token and layer, a panel per kind of restoration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from evals.report.figures import INK, blank_figure, label, quiet_axes, step_ticks

TITLES = {"layer": "layer output", "ffn": "FFN", "attention": "attention"}


def plot_effects(location: Mapping[str, Any]) -> Figure:
    """Three heat maps: layer outputs, FFN outputs, attention outputs.

    Args:
        location: What ``seqedit locate --json`` prints.
    """
    layers = int(location["layers"])
    wide = min(4.5, max(2.6, 0.42 * layers + 0.7))
    figure = blank_figure(3 * wide + 1.6, 3.3)
    panels = figure.subplots(1, 3, sharey=True)
    width = location["settings"]["window"]
    for axes, (kind, title) in zip(panels, TITLES.items(), strict=True):
        bar = _panel(figure, axes, location["effects"][kind], layers)
        over = "" if kind == "layer" or width == 1 else f", windows of {width}"
        label(axes, "layer" if not over else "layer in the middle", "", f"{title}{over}")
    bar.set_label("effect, points of p(answer)", color=INK, fontsize=10)
    return figure


def _panel(figure: Figure, axes: Axes, effects: Mapping[str, Any], layers: int) -> Colorbar:
    cells = np.array(
        [[np.nan if point["mean"] is None else 100 * point["mean"] for point in points] for points in effects.values()]
    )
    quiet_axes(axes).grid(False)
    # One scale per panel: the last token's layer outputs reach the whole effect and would leave the others blank.
    known = cells[~np.isnan(cells)]
    low = min(0.0, known.min(initial=0.0))
    high = max(low + 1e-6, known.max(initial=0.0))
    rows = np.arange(len(effects) + 1) - 0.5
    image = axes.pcolormesh(
        np.arange(layers + 1) - 0.5, rows, np.ma.masked_invalid(cells), vmin=low, vmax=high, cmap="cividis"
    )
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_yticks(range(len(effects)), list(effects))
    step_ticks(axes, list(range(layers)))
    if layers <= 12:
        for row, layer in zip(*np.where(~np.isnan(cells)), strict=True):
            value = cells[row, layer]
            axes.text(
                layer,
                row,
                f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}".replace("-0.0", "0.0"),
                ha="center",
                va="center",
                fontsize=8,
                color="#ffffff" if value < low + 0.55 * (high - low) else "#000000",
            )
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return bar
