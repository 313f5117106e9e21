"""Matplotlib figures without pyplot, as PNG files and as inline SVG that follows a page's colours."""

from __future__ import annotations

import io
import re
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from seqedit.support.printable import visible

INK = "#24292f"
"""Colour of text and axes; in SVG it becomes the page's own text colour."""
# Okabe and Ito's palette, told apart also without colour vision; but grey instead of their second blue, which is only a
# shade of the first.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#666e78", "#7a4b1e", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # of another number than the colours: no pair comes again soon


def blank_figure(width: float, height: float) -> Figure:
    """A figure without axes; sizes in inches. Nothing global is touched."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_figure(width: float = 7.2, height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure with one quiet axes; sizes in inches."""
    figure = blank_figure(width, height)
    return figure, quiet_axes(figure.add_subplot())


def quiet_axes(axes: Axes) -> Axes:
    """Two spines, a faint grid, everything in the ink colour."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    # Ink made transparent stays faint on dark pages too, where a light grey would glare.
    axes.grid(True, axis="y", color=INK, linewidth=0.6, alpha=0.15)
    axes.set_axisbelow(True)
    return axes


def label(axes: Axes, x: str, y: str, title: str) -> None:
    """Axis labels and a title, in the ink colour."""
    axes.set_xlabel(x, color=INK, fontsize=10)
    axes.set_ylabel(y, color=INK, fontsize=10)
    axes.set_title(title, color=INK, fontsize=11, loc="left")


def legend(axes: Axes) -> None:
    """A legend beside the data, if there is anything to tell apart."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        axes.legend(
            handles,
            names,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )


def step_ticks(axes: Axes, steps: list[int], vertical: bool = False, most: int = 20) -> None:
    """Whole numbers only: all, or where they are more than ``most`` the multiples of 2, 5, 10, 20, ..."""
    stride = 1
    if len(steps) > most:
        strides = [factor * 10**power for power in range(7) for factor in (1, 2, 5)]
        stride = next(s for s in strides if len(steps) / s <= most)
    (axes.set_yticks if vertical else axes.set_xticks)([step for step in steps if stride == 1 or step % stride == 0])


def write_png(figure: Figure, path: Path) -> Path:
    """The figure on white, 150 dots per inch; bytes depend on the figure alone."""
    _show_texts(figure)
    figure.savefig(path, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return path


def svg_text(figure: Figure, name: str) -> str:
    """A figure as SVG, its text as text and its background clear; the same for the same figure and name.

    Args:
        figure: The figure.
        name: Unique on the page; letters, digits, hyphens and underscores.
    """
    _show_texts(figure)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", dpi=150, transparent=True, metadata=metadata)
    return buffer.getvalue().decode("utf-8")


def _show_texts(figure: Figure) -> None:
    """Names of runs and tasks as they are: a dollar begins no formula, and no character turns writing around."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(visible(text.get_text()))


def write_svg(svg: str, path: Path) -> Path:
    """What `svg_text` gave as a file of its own, on white."""
    path.write_text(svg.replace("<svg ", '<svg style="background: #ffffff" ', 1), "utf-8", newline="\n")
    return path


def inline_svg(svg: str, name: str, description: str) -> str:
    """What `svg_text` gave as an ``<svg>`` element for an HTML page.

    The ink colour becomes ``currentColor`` so that light and dark pages both read, and ids carry the name so that
    several figures can share a page.

    Args:
        svg: The figure.
        name: As for `svg_text`.
        description: What the figure shows, for readers who do not see it.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    svg = re.sub(r'font: ([\d.]+)px [^;"]*', r"font: \1px system-ui, sans-serif", svg)
    alt = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    # A width in points would overrun narrow screens; the viewBox keeps the shape.
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)
