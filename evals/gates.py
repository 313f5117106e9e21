"""Gates: limits that the scores of a step must keep, and what is said when one does not.

With a confidence level a gate trips only where the whole interval lies beyond the limit: a noisy score does not stop a
run by chance more often than the level says, at one look. Over many steps it does (docs/reference/statistics.md), so
choose the level for the number of steps, or a limit that matters. What a metric cannot be asked is refused when the
gate is read (`evals.gate_rules`); a number that is missing is an error and one that is none (NaN) trips: no gate passes
in silence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.gate_rules import CHANGES, DIAGNOSIS, GENERATION, KINDS, check_rule, split_metric
from evals.scores.paired import PairedScore
from evals.scores.scores import METRICS as SCORES
from evals.statistics.stratified import wilson
from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean

_ALIASES = {f"{name} of earlier edits": f"earlier.{name}" for name in (*SCORES, "GE", "RS")}
_TEXT = re.compile(
    r"(?P<metric>[^:]+):\s*(?P<kind>max_drop|max_rise|min|max)\s+(?P<limit>[-+0-9.eE]+)(?:\s+at\s+(?P<level>[0-9.]+)\s*%)?\s*"
)
_KINDS = KINDS
_TOLERANCE = 1e-9
"""Share of the numbers compared by which a limit may be passed: 0.85 - 0.90 is not exactly -0.05."""


@dataclass(frozen=True)
class Gate:
    """A limit on one number of a step.

    Attributes:
        metric: ``cola.mcc`` and other ``TASK.METRIC``; ``ES``, ``PS``, ... of the new batch; ``earlier.ES``, ... of all
            earlier edits; ``drift.perplexity`` and other drifts; ``converged`` and ``written`` of the new batch's
            diagnosis, as shares of 1.
        kind: ``max_drop`` and ``max_rise``: it may fall or rise by at most the limit from the unedited model;
            ``min`` and ``max``: it may not be below or above the limit.
        limit: The limit, in the metric's own unit (percent for ES and its like).
        level: Trip only where the whole confidence interval of this level lies beyond the limit; None to look at the
            measured number itself. Between 0.5 and 1.
    """

    metric: str
    kind: str
    limit: float
    level: float | None = None

    def __post_init__(self) -> None:
        try:
            check_rule(self.metric, self.kind, self.limit, self.level)
        except InputError as error:
            raise InputError(f"gate '{self.name}': {error}") from None

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
        value: The number it looked at (the change, for ``max_drop`` and ``max_rise``); None where there is none.
        bound: The end of the confidence interval that decided; None without a level.
        tripped: Whether the limit is passed.
        reason: Why there is no number, e.g. that the model's outputs are not finite; None where there is one.
    """

    gate: str
    value: float | None
    bound: float | None
    tripped: bool
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        data = {"gate": self.gate, "value": self.value, "bound": self.bound, "tripped": self.tripped}
        return data if self.reason is None else {**data, "reason": self.reason}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateResult:
        """The inverse of `to_dict`."""
        return cls(data["gate"], data["value"], data["bound"], data["tripped"], data.get("reason"))

    def __str__(self) -> str:
        value = (self.reason or "nothing to measure") if self.value is None else f"{self.value:.4g}"
        bound = "" if self.bound is None else f" (bound {self.bound:.4g})"
        return f"{'tripped' if self.tripped else 'kept'}: {self.gate}; found {value}{bound}"


def parse_gates(value: Any) -> tuple[Gate, ...]:
    """Gates from a configuration: a list of texts or mappings, or a mapping of metrics to conditions.

    ``"cola.mcc: max_drop 0.05 at 95 %"``, ``{"metric": "cola.mcc", "max_drop": 0.05, "level": 0.95}`` and
    ``{"cola.mcc": "max_drop 0.05 at 95 %"}`` and ``{"cola.mcc": {"max_drop": 0.05, "level": 0.95}}`` say the same.

    Raises:
        InputError: names the gate that is not understood.
    """
    if value is None:
        return ()
    if isinstance(value, Mapping):
        return tuple(_of_metric(metric, condition) for metric, condition in value.items())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"gates must be a list or a mapping, got {type(value).__name__}")
    gates: list[Gate] = []
    for item in value:
        if isinstance(item, str):
            gates.append(_from_text(item))
        elif isinstance(item, Mapping) and "metric" in item:
            gates.append(_from_mapping(item))
        elif isinstance(item, Mapping):
            gates.extend(_of_metric(metric, condition) for metric, condition in item.items())
        else:
            raise InputError(f"gate {item!r} is neither a text nor a mapping")
    return tuple(gates)


def _of_metric(metric: Any, condition: Any) -> Gate:
    """A metric's condition, as text (``min 90``) or as a mapping (``{min: 90}``)."""
    if isinstance(condition, Mapping):
        return _from_mapping({**condition, "metric": metric})
    return _from_text(f"{metric}: {condition}")


def _from_text(text: str) -> Gate:
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        words = text.rpartition(":")[2].split() or [""]
        hint = "" if words[0] in _KINDS else did_you_mean(words[0], _KINDS)
        raise InputError(
            f"gate {text!r} is not understood{hint}; write e.g. 'cola.mcc: max_drop 0.05 at 95 %' or "
            "'earlier.ES: min 90'"
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
        hint = did_you_mean(str(unknown[0]), ("metric", "level", *_KINDS)) if unknown else ""
        raise InputError(f"gate {dict(data)!r} needs 'metric', one of {', '.join(_KINDS)}, and may have 'level'{hint}")
    try:
        if any(isinstance(data.get(name), bool) for name in (kinds[0], "level")):
            raise InputError(f"gate {dict(data)!r}: the limit and the level are numbers")
        limit, level = float(data[kinds[0]]), data.get("level")
        metric = str(data["metric"])
        return Gate(_ALIASES.get(metric, metric), kinds[0], limit, None if level is None else float(level))
    except InputError:
        raise
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
        step: A step of a summary: scores by name, "requests", "earlier", "drift", "tasks" and "diagnosis"; for levels
            and changes of scores "paired" ("new" and "earlier": score -> `PairedScore.to_dict`) and "generated" (GE
            and RS -> "mean", "deviation", "records").
        baseline: The summary's baseline, and "drift": the perplexity of the unedited model.
        interval: Intervals of tasks at other levels than the 95 % that the summary has.

    Raises:
        InputError: what a gate looks at is not measured by this run, or its level or change cannot be told.
    """
    return [_check(gate, step, baseline, interval) for gate in gates]


def broken_gates(gates: Sequence[Gate], reason: str) -> list[GateResult]:
    """All gates of a step whose model could not be scored: every one is tripped.

    Args:
        gates: The gates.
        reason: Why it could not.
    """
    return [GateResult(gate.name, None, None, True, reason) for gate in gates]


@dataclass(frozen=True)
class _Found:
    """What a gate looks at.

    Attributes:
        value: The number.
        before: The unedited model's; None where it is not asked for or not known.
        ends: Level -> confidence interval of the number, or of its change where the gate is on that.
    """

    value: float
    before: float | None = None
    ends: Callable[[float], tuple[float, float]] | None = None


def _check(gate: Gate, step: Mapping[str, Any], baseline: Mapping[str, Any], interval: Interval | None) -> GateResult:
    place, name = split_metric(gate.metric)
    if place == "" and name in DIAGNOSIS:
        return _diagnosed(gate, name, step.get("diagnosis"))
    if place == "":
        return _decided(gate, _score(gate, name, step, "new", step, baseline))
    if place == "earlier":
        earlier = step.get("earlier")
        if earlier is None:  # the first step has no earlier edits, nor has one that follows reverts only
            return GateResult(gate.name, None, None, False)
        return _decided(gate, _score(gate, name, earlier, "earlier", step, baseline))
    if place == "drift":
        value = _measured(gate, step.get("drift") or {}, name)
        return _decided(gate, _Found(value, (baseline.get("drift") or {}).get(name)))
    task = (step.get("tasks") or {}).get(place)
    if task is None or name not in task:
        raise InputError(
            f"gate '{gate.name}': no '{gate.metric}' is measured; tasks of this run: "
            f"{', '.join(step.get('tasks') or {}) or 'none'}"
        )
    return _decided(gate, _task(gate, place, task, name, interval))


def _diagnosed(gate: Gate, name: str, found: Mapping[str, Any] | None) -> GateResult:
    """A share of the newest batch's diagnosis; where that does not tell it, the gate trips and says so."""
    if found is None:
        return GateResult(gate.name, None, None, True, "the batch has no diagnosis: nothing was computed for it")
    if name == "converged":
        value = None if found.get("converged") is None else found["converged"] / found["requests"]
        missing = "no target values were optimised"
    else:
        value = min((found.get("written") or {}).values(), default=None)
        missing = "no residual was written by a closed form"
    if value is None:
        return GateResult(gate.name, None, None, True, f"the diagnosis has no '{name}': {missing}")
    return _decided(gate, _Found(float(value)))


def _decided(gate: Gate, found: _Found) -> GateResult:
    value, scale = found.value, abs(found.value)
    if gate.kind in CHANGES:
        if found.before is None:
            raise InputError(f"gate '{gate.name}': there is no '{gate.metric}' of the unedited model to compare with")
        value, scale = found.value - found.before, max(scale, abs(found.before))
    bound: float | None = None
    if gate.level is not None:
        if found.ends is None:
            raise InputError(
                f"gate '{gate.name}': '{gate.metric}' has no confidence interval here; leave out the level"
            )
        low, high = found.ends(gate.level)
        bound = high if gate.kind in ("min", "max_drop") else low
    looked = value if bound is None else bound
    if not math.isfinite(value) or not math.isfinite(looked):
        return GateResult(gate.name, None, None, True, f"'{gate.metric}' is {found.value}, no finite number")
    slack = _TOLERANCE * max(scale, abs(gate.limit))
    beyond = {
        "min": gate.limit - looked,
        "max": looked - gate.limit,
        "max_drop": -looked - gate.limit,
        "max_rise": looked - gate.limit,
    }[gate.kind]
    return GateResult(gate.name, value, bound, beyond > slack)


def _measured(gate: Gate, scores: Mapping[str, Any], name: str) -> float:
    if name not in scores:
        known = [key for key, value in scores.items() if isinstance(value, int | float)]
        raise InputError(
            f"gate '{gate.name}': no '{gate.metric}' is measured (there are: {', '.join(known)})"
            f"{did_you_mean(name, known)}"
        )
    value = scores[name]
    if value is None:
        raise InputError(
            f"gate '{gate.name}': no '{gate.metric}' is measured at this step: none of its facts can tell it "
            "(no such prompts, or no target_true)"
        )
    return float(value)


def _score(
    gate: Gate, name: str, scores: Mapping[str, Any], group: str, step: Mapping[str, Any], baseline: Mapping[str, Any]
) -> _Found:
    """Scores of facts, in percent: of the same records under both models where the step has them."""
    value = _measured(gate, scores, name)
    if name in GENERATION:
        return _Found(value, ends=lambda level: _mean_interval(gate, (step.get("generated") or {}).get(name), level))
    data = ((step.get("paired") or {}).get(group) or {}).get(name)
    if data is not None:
        paired = PairedScore.from_dict(data)
        change = gate.kind in CHANGES
        return _Found(value, paired.before, paired.change_interval if change else paired.interval)
    unedited = baseline.get("counterfact") or {}
    if gate.kind in CHANGES:
        return _Found(value, unedited.get(name))
    return _Found(value, ends=lambda level: _share_interval(gate, name, scores, level))


def _share_interval(gate: Gate, name: str, scores: Mapping[str, Any], level: float) -> tuple[float, float]:
    """Where the records themselves are not at hand: what was stored with the averages, or Wilson's interval."""
    stored = (scores.get("intervals") or {}).get(name)
    if stored is not None and level == 0.95:
        return stored[0], stored[1]
    count = scores.get("scored", scores.get("requests"))
    if name == "S" or not count:
        raise InputError(f"gate '{gate.name}': '{gate.metric}' has no interval at {100 * level:g} % here")
    low, high = wilson(scores[name] / 100 * count, count, level)
    return 100 * low, 100 * high


def _mean_interval(gate: Gate, data: Mapping[str, Any] | None, level: float) -> tuple[float, float]:
    """Student's interval of a mean over records, for GE and RS, which are no shares."""
    from scipy.stats import t

    if data is None or data["records"] < 2:
        raise InputError(
            f"gate '{gate.name}': an interval of '{gate.metric}' needs texts for at least two records of the batch; "
            "leave out the level"
        )
    half = float(t.ppf((1 + level) / 2, data["records"] - 1)) * data["deviation"] / data["records"] ** 0.5
    return data["mean"] - half, data["mean"] + half


def _task(gate: Gate, place: str, task: Mapping[str, Any], name: str, interval: Interval | None) -> _Found:
    prefix = "" if task.get("metric") == name else f"{name}_"
    change, low, high = (task.get(f"{prefix}{part}") for part in ("change", "ci_low", "ci_high"))
    unpaired = task.get(f"{prefix}unpaired")
    if unpaired is not None and (gate.kind in CHANGES or gate.level is not None):
        raise InputError(f"gate '{gate.name}': '{gate.metric}' has no change that is paired by document: {unpaired}")
    value = task[name]
    if value is None:
        raise InputError(f"gate '{gate.name}': no '{gate.metric}' is measured at this step")
    value = float(value)
    if change is None:
        if gate.kind in CHANGES:
            raise InputError(f"gate '{gate.name}': the run has no change of '{gate.metric}' from the unedited model")
        return _Found(value)
    before = value - change

    def ends(level: float) -> tuple[float, float]:
        found = (low, high)
        if level != 0.95:
            if interval is None:
                raise InputError(f"gate '{gate.name}': intervals of tasks are known at 95 % here")
            found = interval(place, name, level)
        if found[0] is None or found[1] is None:
            raise InputError(f"gate '{gate.name}': '{gate.metric}' has no confidence interval; leave out the level")
        if gate.kind in CHANGES:
            return found[0], found[1]
        # The interval is that of the change; put around the baseline's value it is the value's, paired.
        return before + found[0], before + found[1]

    if gate.kind == "max_drop" and task.get(f"{prefix}lower_is_better"):
        # A drop is what damage does, and it raises this metric.
        return _Found(-value, -before, lambda level: (-ends(level)[1], -ends(level)[0]))
    return _Found(value, before, ends)
