"""The picture of a search: every trial a row, best first, what it scored and what cannot be told from the best."""

from __future__ import annotations

from pathlib import Path

from evals.report.figures import COLORS, INK, MARKERS, blank_figure, label, legend, quiet_axes, write_png
from seqedit.tuning.choice import Trial
from seqedit.tuning.shown import told
from seqedit.tuning.tune import Tuned

_SCORES = ("ES", "EM", "PS", "NS")


def write_plot(path: Path, tuned: Tuned) -> Path:
    """A panel of the sequences and one of the single batches; a row a trial, a mark a score, NS unedited as a line.

    The recommended trial is starred; bold rows cannot be told from it, the others can.

    Args:
        path: A PNG.
        tuned: What was found.
    """
    panels = [(name, trials) for name, trials in (
        (f"in sequence, {tuned.held_out} facts held apart", tuned.confirmed), ("one batch of the probe", tuned.solved),
    ) if trials]  # fmt: skip
    rows = [len(trials) for _, trials in panels]
    figure = blank_figure(8.6, 1.1 * len(panels) + 0.21 * sum(rows) + 0.4)
    near = {id(trial) for trial in (tuned.best, *tuned.undecided)}
    axes_of = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[count + 3 for count in rows])[:, 0]
    for axes, (name, trials) in zip(axes_of, panels, strict=True):
        quiet_axes(axes)
        axes.grid(True, axis="x", color=INK, linewidth=0.6, alpha=0.15)
        heights = list(range(len(trials)))[::-1]
        for score, color, marker in zip(_SCORES, COLORS, MARKERS, strict=False):
            known = [(trial.scores[score], y) for trial, y in zip(trials, heights, strict=True)]
            points = [(x, y) for x, y in known if x is not None]
            if points:
                axes.scatter(*zip(*points, strict=True), color=color, marker=marker, s=26, label=score)
        unedited = trials[0].unedited_ns
        if unedited is not None:
            axes.axvline(unedited, color=COLORS[3], linestyle="--", linewidth=1.2, label="NS unedited")
        axes.set_yticks(heights, [_row(trial, trial is tuned.best) for trial in trials], fontsize=8, color=INK)
        for text, trial in zip(axes.get_yticklabels(), trials, strict=True):
            text.set_fontweight("bold" if id(trial) in near else "normal")
        axes.set_xlim(-2, 102)
        axes.set_ylim(-0.8, len(trials) - 0.2)
        label(axes, "%", "", f"{tuned.method}, {name}, best first")
        if axes is axes_of[0]:
            legend(axes)
    figure.supxlabel("★ recommended; bold: cannot be told from it by these facts", fontsize=9, color=INK)
    return write_png(figure, path)


def _row(trial: Trial, best: bool) -> str:
    layers = ",".join(map(str, trial.settings["layers"]))
    return f"{'★ ' if best else ''}layers {layers}: {told(trial.settings)}"
