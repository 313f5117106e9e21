"""What the plots of a run show, apart from how they are drawn.

The same charts are drawn twice: by matplotlib as files and as the page's static pictures (`evals.report.plots`), and by
the page's own script, where they answer to the pointer, the keyboard and the filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evals.forgetting import AgePoint, find_collapse, forgetting_curve, half_life
from evals.report.diagnosis import diagnosis_share, diagnosis_view

Summary = Mapping[str, Any]
FEW = 5
"""A mean over fewer batches than this is marked as one: a single bad batch, or the oldest one alone, makes it."""
_PERCENT = (-2.0, 102.0)
_SHOWN = ("ES", "PS", "NS", "S")
SCORES = (*_SHOWN, "EM", "PM", "NM", "ET", "PT", "NT", "GE", "RS")
"""Scores of a batch, in the order in which they are shown."""


@dataclass(frozen=True)
class Series:
    """Points over steps or ages, with an interval at each where one is known.

    Attributes:
        name: What it is; the same name in several panels has one entry in the legend.
        x, y: The measured points only.
        low, high: Ends of the interval at each point, or None; empty where there is none at all.
        shown: Whether it is drawn before the reader asks for it.
        counts: Of how many batches each point is the mean; empty where points are no means. Points of fewer than `FEW`
            are drawn as such: hollow, without a band.
    """

    name: str
    x: list[int]
    y: list[float]
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    shown: bool = True
    counts: list[int] = field(default_factory=list)

    @property
    def solid(self) -> int:
        """How many points from the first on are means of enough batches; all where they are no means."""
        few = (position for position, count in enumerate(self.counts) if count < FEW)
        return next(few, len(self.x))


@dataclass(frozen=True)
class Mark:
    """A place on the x axis that means something, with the range the data cannot tell from it."""

    x: float
    label: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: What is measured.
        series: What is drawn.
        limits: Fixed ends of the y axis; None to fit the data.
        reference: A horizontal line, e.g. 0 for a change.
        marks: Places on the x axis.
        shown: Whether it is drawn before the reader asks for it.
        digits: Digits after the point of its values.
    """

    title: str
    series: list[Series]
    limits: tuple[float, float] | None = None
    reference: float | None = None
    marks: list[Mark] = field(default_factory=list)
    shown: bool = True
    digits: int = 1


@dataclass(frozen=True)
class Chart:
    """One or more panels with a common x axis.

    Attributes:
        name: Name of its files; on the page the run's name precedes it.
        title: Heading.
        caption: What it shows, also for readers who do not see it.
        x_label, y_label: Of all panels.
        panels: The panels.
        kind: ``line``; ``stack`` for bars on top of each other; ``many`` for more lines than a legend can name: their
            colours run from the first to the last, and the legend is a bar of them.
        over: What x counts: ``step`` (follows the filters of the page) or ``age``.
        few: Points that are means over fewer batches are marked.
    """

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    panels: list[Panel]
    kind: str = "line"
    over: str = "step"
    few: int = FEW

    @property
    def tells(self) -> bool:
        """Whether there are two places on the x axis: of one, a table tells all."""
        return len({x for panel in self.panels for series in panel.series for x in series.x}) > 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def charts_of(run: Summary) -> list[Chart]:
    """The charts of one run that have something to show, in the order of the page."""
    found = (
        scores_chart(run), tasks_chart(run), batches_chart(run), drift_chart(run), diagnosis_chart(run),
        seconds_chart(run),
    )  # fmt: skip
    return [chart for chart in found if chart is not None and chart.tells]


def scores_chart(run: Summary) -> Chart | None:
    """Scores of the newest batch and of all earlier edits."""
    steps = run.get("steps") or []
    collapse = collapse_of(run)
    panels = []
    for metric in SCORES:
        kept = [
            series_of("newest batch", steps, lambda step, m=metric: step.get(m)),
            series_of("all earlier edits", steps, lambda step, m=metric: (step.get("earlier") or {}).get(m)),
        ]
        kept = [series for series in kept if series.x]
        if kept:
            limits = None if metric in ("GE", "RS") else _PERCENT
            marks = _collapse_marks(collapse.get(f"earlier.{metric}"))
            panels.append(Panel(metric, kept, limits, marks=marks, shown=metric in _SHOWN))
    if not panels:
        return None
    if not any(panel.shown for panel in panels):
        panels[0] = Panel(**{**vars(panels[0]), "shown": True})
    names = {series.name for panel in panels for series in panel.series}
    both = {"newest batch": "the batch just edited in", "all earlier edits": "all earlier edits on the same model"}
    caption = f"Scores of {', and of '.join(text for name, text in both.items() if name in names)}, in percent."
    return Chart("scores", "Scores of new and earlier edits", caption, "step", "score, %", panels)


def tasks_chart(run: Summary) -> Chart | None:
    """Change of every task's main metric, a panel per task on one scale."""
    steps = run.get("steps") or []
    collapse = collapse_of(run)
    panels = []
    for name in dict.fromkeys(name for step in steps for name in step.get("tasks") or {}):
        rows = [(step, (step.get("tasks") or {}).get(name) or {}) for step in steps]
        series = [
            _changes("against the unedited model", rows, ""),
            _changes("against the step before", rows, "previous_"),
        ]
        series = [s for s in series if s.x]
        if series:
            metric = plotted_metric(next(entry for _, entry in rows if entry))
            marks = _collapse_marks(collapse.get(f"{name}.{metric}"))
            panels.append(Panel(f"{name} ({metric})", series, reference=0.0, marks=marks, digits=3))
    if not panels:
        return None
    values = [v for p in panels for s in p.series if s.shown for v in (*s.y, *s.low, *s.high) if v is not None]
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.05 * (high - low) or 0.01
    panels = [Panel(**{**vars(panel), "limits": (low - room, high + room)}) for panel in panels]
    caption = "Change of each task's metric against the unedited model on the same documents"
    caption += (
        ", with its 95 % interval." if any(end is not None for p in panels for s in p.series for end in s.low) else "."
    )
    return Chart("tasks", "Damage on tasks", caption, "step", "change of the metric", panels)


def ages_chart(runs: Mapping[str, Summary]) -> Chart | None:
    """The forgetting curve of every run: mean score by age of the edits."""
    series, marks = [], []
    for name, run in runs.items():
        points = curve_points(run)
        if points:
            low, high = ([point.get(end) for point in points] for end in ("ci_low", "ci_high"))
            counts = [int(p["count"]) for p in points] if all(p.get("count") for p in points) else []
            series.append(
                Series(name, [p["age"] for p in points], [p["mean"] for p in points], low, high, counts=counts)
            )
        age = half_life_of(run)
        if age is not None:
            whose = f"{name}: " if len(runs) > 1 else ""
            marks.append(Mark(age, f"{whose}half-life {age:.1f}"))
    metric = next(iter(runs.values())).get("forgetting_metric") or "ES"
    caption = f"Mean {metric} of edits by their age in steps"
    if any(None not in (*s.low[: s.solid], *s.high[: s.solid]) and s.solid > 1 for s in series):
        caption += "; the band is the 95 % interval over batches"
    if any(s.counts for s in series):
        caption += "; n is how many batches have that age"
    if any(s.solid < len(s.x) for s in series):
        caption += f". Hollow points are means of fewer than {FEW} batches, and say little"
    found = Chart(
        "forgetting_curve", "What is left of edits as they age", f"{caption}.", "age of the edits, steps",
        f"{metric}, %", [Panel("", series, _PERCENT, marks=marks)], over="age",
    )  # fmt: skip
    return found if found.tells else None


def batches_chart(run: Summary) -> Chart | None:
    """Score of every batch over the steps that followed it."""
    matrix = run.get("forgetting") or []
    numbers = _numbers(run)
    metric = run.get("forgetting_metric") or "ES"
    series = []
    for batch in range(len(matrix)):
        points = [(numbers[t], matrix[t][batch]) for t in range(len(matrix)) if batch < len(matrix[t])]
        known = [(x, y) for x, y in points if y is not None]
        if len(known) > 1:
            series.append(Series(f"edits of step {numbers[batch]}", [x for x, _ in known], [y for _, y in known]))
    if not series:
        return None
    caption = f"{metric} of every batch at every later step, one line per batch; the bar of colours tells its step."
    marks = _collapse_marks(collapse_of(run).get(f"earlier.{metric}"))
    panel = Panel("", series, _PERCENT, marks=marks)
    return Chart("forgetting_batches", "Each batch over time", caption, "step", f"{metric}, %", [panel], kind="many")


def drift_chart(run: Summary) -> Chart | None:
    """Perplexity and divergence on plain text; how far weights, preserved outputs and memorised values have moved."""
    steps = run.get("steps") or []
    modules = list(dict.fromkeys(name for step in steps for name in _drift(step).get("modules") or {}))
    panels = []
    for key, title in DRIFTS.items():
        series = [series_of("whole model", steps, lambda step, k=key: _drift(step).get(k, step.get(k)))]
        series += [
            series_of(
                module, steps, lambda step, k=key, m=module: ((_drift(step).get("modules") or {}).get(m) or {}).get(k),
                shown=False,
            )
            for module in modules
        ]  # fmt: skip
        series = [s for s in series if s.x]
        if series:
            panels.append(Panel(title, series, shown=key != "nll", digits=3))
    if not panels:
        return None
    if all(not panel.shown or not any(s.shown for s in panel.series) for panel in panels):
        panels[0] = Panel(**{**vars(panels[0]), "shown": True})
    told = dict.fromkeys(
        _DRIFT_TEXTS[key] for key, title in DRIFTS.items() if any(p.shown and p.title == title for p in panels)
    )
    caption = f"Drift of the model: {'; '.join(told)}."
    return Chart("drift", "Drift of weights, outputs and values", caption, "step", "", panels)


DRIFTS = {
    "perplexity": "perplexity",
    "nll": "nats per token",
    "kl": "KL to the unedited model, nats per token",
    "weight_norm": "weights |W - W0| / |W0|",
    "preservation": "preservation error",
    "memorisation": "memorisation error",
}
"""Kinds of drift -> how they are called."""
_DRIFT_TEXTS = {
    "perplexity": "perplexity of plain text",
    "nll": "nats per token of plain text",
    "kl": "KL(unedited || edited) on plain text",
    "weight_norm": "distance of the edited weights from the unedited ones, relative",
    "preservation": "distance of the outputs for ordinary keys, relative (preservation)",
    "memorisation": "distance from the values of all edits, relative (memorisation)",
}


def diagnosis_chart(run: Summary) -> Chart | None:
    """How every batch went into the weights: shares learnt, converged and written, and the load."""
    steps = run.get("steps") or []
    found = {int(step["step"]): diagnosis_view(step.get("diagnosis")) or {} for step in steps if step.get("diagnosis")}
    panels = []
    for title, (keys, digits) in _DIAGNOSIS.items():
        series = [
            series_of(name, steps, lambda step, k=key: diagnosis_share(found.get(int(step["step"])) or {}, k))
            for key, name in keys.items()
        ]
        series = [s for s in series if s.x]
        if series:
            panels.append(Panel(title, series, _PERCENT if title.endswith("%") else None, digits=digits))
    if not panels:
        return None
    told = "; ".join(_DIAGNOSIS_TEXTS[title] for title in _DIAGNOSIS if any(p.title == title for p in panels))
    return Chart("diagnosis", "How the batches went in", f"{told[0].upper()}{told[1:]}.", "step", "", panels)


_DIAGNOSIS: dict[str, tuple[dict[str, str], int]] = {
    "target values, %": ({"converged": "converged", "reached": "answer at the argmax"}, 1),
    "written, %": ({"written": "share of the residual written"}, 1),
    "load": ({"load": "edits in force per key dimension"}, 4),
}
_DIAGNOSIS_TEXTS = {
    "target values, %": "target values that converged, and that make the answer the argmax",
    "written, %": "share of the residual that the batch wrote, at the layer where it is smallest",
    "load": "edits in force per dimension of the keys",
}


def seconds_chart(run: Summary) -> Chart | None:
    """Where the time of each step went: the edit below, the evals on top of it."""
    steps = run.get("steps") or []
    parts = parts_of(steps)
    series = [series_of(part, steps, lambda step, p=part: (step.get("timings") or {}).get(p)) for part in parts]
    if not series:
        return None
    caption = "Seconds of every step by part" + (": the edit first, then what was measured." if parts[0] == "edit" and
                                                 len(parts) > 1 else ".")  # fmt: skip
    return Chart("seconds", "Seconds per step", caption, "step", "seconds", [Panel("", series, digits=2)], kind="stack")


def parts_of(steps: Sequence[Summary]) -> list[str]:
    """Parts that time is kept of, the edit first."""
    found = dict.fromkeys(key for step in steps for key in step.get("timings") or {})
    return sorted(found, key=lambda part: (part != "edit", part))


def series_of(name: str, steps: Sequence[Summary], get: Callable[..., Any], shown: bool = True) -> Series:
    """The steps that have a value."""
    points = [(int(step["step"]), float(value)) for step in steps if (value := get(step)) is not None]
    return Series(name, [x for x, _ in points], [y for _, y in points], shown=shown)


def curve_points(summary: Summary) -> list[dict[str, Any]]:
    """The forgetting curve of a run as dictionaries: as given, or else from the matrix."""
    given = summary.get("forgetting_curve")
    if given:
        return [dict(point) if isinstance(point, Mapping) else point.to_dict() for point in given]
    matrix, steps = summary.get("forgetting") or [], summary.get("steps") or []
    told = len(steps) == len(matrix) and all(isinstance(step.get("active"), bool) for step in steps)
    kept = [t for t, step in enumerate(steps) if step["active"]] if told else None
    return [point.to_dict() for point in forgetting_curve(matrix, steps=kept)]


def half_life_of(summary: Summary) -> float | None:
    """The half-life that a summary gives, or else that of its curve."""
    given = summary.get("half_life")
    if isinstance(given, int | float):
        return float(given)
    points = curve_points(summary)
    return half_life([AgePoint(int(p["age"]), float(p["mean"]), 0, None, None) for p in points])


def collapse_of(summary: Summary) -> dict[str, dict[str, Any]]:
    """Where series collapse, as a summary says; or else found in ES and S of all earlier edits."""
    given = summary.get("collapse")
    if isinstance(given, Mapping):
        return {str(name): dict(found) for name, found in given.items()}
    steps = summary.get("steps") or []
    series = {f"earlier.{m}": [(step.get("earlier") or {}).get(m) for step in steps] for m in ("ES", "S")}
    found = {name: find_collapse(values) for name, values in series.items()}
    return {name: collapse.to_dict() for name, collapse in found.items() if collapse is not None}


def plotted_metric(task: Mapping[str, Any]) -> str:
    """Name of the metric that a task's entry is about: named by the entry, or its first field."""
    return str(task.get("metric") or next(iter(task), ""))


def _changes(name: str, rows: Sequence[tuple[Summary, Summary]], prefix: str) -> Series:
    kept = [(step, entry) for step, entry in rows if entry.get(f"{prefix}change") is not None]
    low, high = ([entry.get(f"{prefix}{end}") for _, entry in kept] for end in ("ci_low", "ci_high"))
    changes = [float(entry[f"{prefix}change"]) for _, entry in kept]
    return Series(name, [int(step["step"]) for step, _ in kept], changes, low, high, shown=not prefix)


def _collapse_marks(found: Mapping[str, Any] | None) -> list[Mark]:
    if not found:
        return []
    return [Mark(found["step"], f"collapse from step {found['step']}", found.get("low"), found.get("high"))]


def _numbers(run: Summary) -> list[int]:
    """How the rows of the forgetting matrix are counted: as the steps, or from 1."""
    steps, size = run.get("steps") or [], len(run.get("forgetting") or [])
    return [int(step["step"]) for step in steps] if len(steps) == size else list(range(1, size + 1))


def _drift(step: Summary) -> Mapping[str, Any]:
    return step.get("drift") or {}
