"""Gates: limits that the scores of a step must keep, and what is said when one does not.

A gate on a *change* with a confidence level trips only where the drop is larger than allowed beyond that doubt: a noisy
task does not stop a run by chance more often than the level says, at one look. Over many steps it does (see
docs/statistics.md), so choose the level for the number of steps, or a limit that matters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.scores import METRICS as SCORES
from evals.statistics import wilson
from seqedit.errors import InputError

_ALIASES = {f"{name} of earlier edits": f"earlier.{name}" for name in (*SCORES, "GE", "RS")}
_TEXT = re.compile(
    r"(?P<metric>[^:]+):\s*(?P<kind>max_drop|min|max)\s+(?P<limit>[-+0-9.eE]+)(?:\s+at\s+(?P<level>[0-9.]+)\s*%)?\s*"
)
_KINDS = ("max_drop", "min", "max")


@dataclass(frozen=True)
class Gate:
    """A limit on one number of a step.

    Attributes:
        metric: ``cola.mcc`` and other ``TASK.METRIC``; ``ES``, ``PS``, ... of the new batch; ``earlier.ES``, ... of all
            earlier edits; ``drift.perplexity`` and other drifts.
        kind: ``max_drop``: it may fall by at most the limit from the unedited model; ``min`` and ``max``: it may not be
            below or above the limit.
        limit: The limit, in the metric's own unit (percent for ES and its like).
        level: Trip only where the whole confidence interval of this level lies beyond the limit; None to look at the
            measured number itself. Between 0.5 and 1.
    """

    metric: str
    kind: str
    limit: float
    level: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(f"gate '{self.metric}': unknown kind '{self.kind}' (known: {', '.join(_KINDS)})")
        if self.level is not None and not 0.5 <= self.level < 1:
            raise InputError(
                f"gate '{self.metric}': the level must be between 50 and 100 %, got {100 * self.level:g} %"
            )
        if self.kind == "max_drop" and self.limit < 0:
            raise InputError(f"gate '{self.metric}': max_drop must not be negative, got {self.limit:g}")

    @property
    def name(self) -> str:
        """The gate as text, e.g. ``cola.mcc: max_drop 0.05 at 95 %``."""
        level = "" if self.level is None else f" at {100 * self.level:g} %"
        return f"{self.metric}: {self.kind} {self.limit:g}{level}"


@dataclass(frozen=True)
class GateResult:
    """A gate at one step.

    Attributes:
        gate: Its text.
        value: The number it looked at (the change, for ``max_drop``); None where the step has none.
        bound: The end of the confidence interval that decided; None without a level.
        tripped: Whether the limit is passed.
    """

    gate: str
    value: float | None
    bound: float | None
    tripped: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"gate": self.gate, "value": self.value, "bound": self.bound, "tripped": self.tripped}

    def __str__(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        bound = "" if self.bound is None else f" (bound {self.bound:.4g})"
        return f"{'tripped' if self.tripped else 'kept'}: {self.gate}; found {value}{bound}"


def parse_gates(value: Any) -> tuple[Gate, ...]:
    """Gates from a configuration: a list of texts or mappings, or a mapping of metrics to conditions.

    ``"cola.mcc: max_drop 0.05 at 95 %"``, ``{"metric": "cola.mcc", "max_drop": 0.05, "level": 0.95}`` and
    ``{"cola.mcc": "max_drop 0.05 at 95 %"}`` say the same.

    Raises:
        InputError: names the gate that is not understood.
    """
    if value is None:
        return ()
    if isinstance(value, Mapping):
        return tuple(_from_text(f"{metric}: {condition}") for metric, condition in value.items())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"gates must be a list or a mapping, got {type(value).__name__}")
    gates: list[Gate] = []
    for item in value:
        if isinstance(item, str):
            gates.append(_from_text(item))
        elif isinstance(item, Mapping) and "metric" in item:
            gates.append(_from_mapping(item))
        elif isinstance(item, Mapping):
            gates.extend(_from_text(f"{metric}: {condition}") for metric, condition in item.items())
        else:
            raise InputError(f"gate {item!r} is neither a text nor a mapping")
    return tuple(gates)


def _from_text(text: str) -> Gate:
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"gate {text!r} is not understood; write e.g. 'cola.mcc: max_drop 0.05 at 95 %' or 'earlier.ES: min 90'"
        )
    try:
        limit = float(match["limit"])
        level = None if match["level"] is None else float(match["level"]) / 100
    except ValueError as error:
        raise InputError(f"gate {text!r}: {error}") from error
    metric = " ".join(match["metric"].split())
    return Gate(_ALIASES.get(metric, metric), match["kind"], limit, level)


def _from_mapping(data: Mapping[str, Any]) -> Gate:
    kinds = [kind for kind in _KINDS if kind in data]
    unknown = sorted(set(data) - {"metric", "level", *_KINDS})
    if len(kinds) != 1 or unknown:
        raise InputError(f"gate {dict(data)!r} needs 'metric', one of {', '.join(_KINDS)}, and may have 'level'")
    try:
        limit, level = float(data[kinds[0]]), data.get("level")
        metric = str(data["metric"])
        return Gate(_ALIASES.get(metric, metric), kinds[0], limit, None if level is None else float(level))
    except (TypeError, ValueError) as error:
        raise InputError(f"gate {dict(data)!r}: {error}") from error


Interval = Callable[[str, str, float], tuple[float, float]]
"""Task, metric, level -> confidence interval of the change from the unedited model."""


def check_gates(
    gates: Sequence[Gate], step: Mapping[str, Any], baseline: Mapping[str, Any], interval: Interval | None = None
) -> list[GateResult]:
    """Look at a step's scores.

    Args:
        gates: The gates.
        step: A step of a summary: scores by name, "requests", "earlier", "drift" and "tasks"; and where it is known
            "unedited", the unedited model's averages over the same records ("new" and "earlier").
        baseline: The summary's baseline.
        interval: Intervals of tasks at other levels than the 95 % that the summary has.

    Raises:
        InputError: a gate's metric is not measured at all by this run; names it and what is.
    """
    return [_check(gate, step, baseline, interval) for gate in gates]


def _check(gate: Gate, step: Mapping[str, Any], baseline: Mapping[str, Any], interval: Interval | None) -> GateResult:
    place, _, name = gate.metric.rpartition(".")
    if place == "":
        return _of_scores(gate, _measured(gate, step, name), step.get("requests"), _before(step, "new", baseline))
    if place == "earlier":
        earlier = step.get("earlier")
        if earlier is None:  # the first step has no earlier edits
            return GateResult(gate.name, None, None, False)
        before = _before(step, "earlier", baseline)
        return _of_scores(gate, _measured(gate, earlier, name), earlier.get("requests"), before)
    if place == "drift":
        drift = step.get("drift") or {}
        return _plain(gate, _measured(gate, drift, name))
    task = (step.get("tasks") or {}).get(place)
    if task is None or name not in task:
        raise InputError(
            f"gate '{gate.name}': no '{gate.metric}' is measured; tasks of this run: "
            f"{', '.join(step.get('tasks') or {}) or 'none'}"
        )
    return _of_task(gate, place, task, name, interval)


def _measured(gate: Gate, scores: Mapping[str, Any], name: str) -> Any:
    if name not in scores:
        known = ", ".join(key for key, value in scores.items() if isinstance(value, int | float))
        raise InputError(f"gate '{gate.name}': no '{gate.metric}' is measured (there are: {known})")
    return scores[name]


def _of_task(gate: Gate, place: str, task: Mapping[str, Any], name: str, interval: Interval | None) -> GateResult:
    prefix = "" if task.get("metric") == name else f"{name}_"
    change, low, high = (task.get(f"{prefix}{part}") for part in ("change", "ci_low", "ci_high"))
    if gate.level not in (None, 0.95):
        if interval is None:
            raise InputError(f"gate '{gate.name}': intervals of tasks are known at 95 % here")
        low, high = interval(place, name, gate.level)
    if gate.kind != "max_drop":
        # The interval is that of the change; put around the baseline's value it is the value's, paired.
        value = task[name]
        if gate.level is None or change is None or low is None or high is None:
            return _plain(gate, value)
        base = value - change
        bound = base + (high if gate.kind == "min" else low)
        return GateResult(gate.name, value, bound, bound < gate.limit if gate.kind == "min" else bound > gate.limit)
    if change is None:
        raise InputError(f"gate '{gate.name}': the run has no change of '{gate.metric}' from the unedited model")
    if gate.level is None or high is None:
        return GateResult(gate.name, change, None, change < -gate.limit)
    return GateResult(gate.name, change, high, high < -gate.limit)


def _before(step: Mapping[str, Any], group: str, baseline: Mapping[str, Any]) -> Mapping[str, Any]:
    """The unedited model's scores of the same records as the step's; of all records where the step has not these."""
    own: Mapping[str, Any] | None = (step.get("unedited") or {}).get(group)
    return own or baseline.get("counterfact") or {}


def _of_scores(gate: Gate, value: Any, count: Any, unedited: Mapping[str, Any]) -> GateResult:
    """Scores in percent; with a level, Wilson's interval over the records."""
    if value is None:
        return GateResult(gate.name, None, None, False)
    if gate.kind == "max_drop":
        name = gate.metric.rpartition(".")[2]
        before = unedited.get(name)
        if before is None:
            raise InputError(f"gate '{gate.name}': the unedited model has no '{name}' to compare with")
        value = value - before
        return GateResult(gate.name, value, None, value < -gate.limit)
    if gate.level is None or not count:
        return _plain(gate, value)
    low, high = wilson(value / 100 * count, count, gate.level)
    bound = 100 * (high if gate.kind == "min" else low)
    return GateResult(gate.name, value, bound, bound < gate.limit if gate.kind == "min" else bound > gate.limit)


def _plain(gate: Gate, value: float | None) -> GateResult:
    if value is None:
        return GateResult(gate.name, None, None, False)
    return GateResult(gate.name, value, None, value < gate.limit if gate.kind == "min" else value > gate.limit)
