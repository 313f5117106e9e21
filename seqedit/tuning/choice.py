"""Which trial is best, and which cannot be told from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evals.scores.scores import Scores, harmonic_mean

_Z = statistics.NormalDist().inv_cdf(0.975)
_PARTS = ("ES", "EM", "PS", "NS")
NEAR = 10.0
"""Points of NS within which the neighbours count as kept."""
ENOUGH, FAR = 90.0, 15.0
"""A model can be edited so if some setting reaches this ES, and loses no more points of NS than that."""


@dataclass(frozen=True)
class Trial:
    """One setting tried.

    Attributes:
        settings: What differs from the method's defaults.
        stage: ``solved`` (stored target values, one batch) or ``sequence`` (several batches, earlier edits protected).
        facts: How many facts were edited.
        scores: ES, EM, PS, NS, S in percent; None where no record tells.
        per_fact: For each fact the mean of its ES, EM, PS and NS, 0 to 1.
        goal: What is maximised: the harmonic mean of ES, EM, PS and the NS that is left of the unedited one, percent.
        perplexity: Of plain text after the edits, by the unedited one; None where it was not measured.
        unedited_ns: NS of the unedited model on the same facts, percent.
        tasks: "task.metric" -> the change against the unedited model, where tasks were asked for.
    """

    settings: Mapping[str, Any]
    stage: str
    facts: int
    scores: Mapping[str, float | None]
    per_fact: tuple[float, ...] = field(repr=False)
    goal: float
    perplexity: float | None = None
    unedited_ns: float | None = None
    tasks: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The trial as JSON types."""
        return {**asdict(self), "settings": dict(self.settings), "per_fact": list(self.per_fact),
                "tasks": dict(self.tasks)}  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        """Back from `to_dict`.

        Raises:
            KeyError: a field is missing.
            TypeError: a field is unknown, or not of its type; names it.
        """
        for name, kinds in _FIELDS.items():
            if name not in _OPTIONAL and name not in data:
                raise KeyError(name)
            if name in data and not isinstance(data[name], kinds):
                raise TypeError(f"field '{name}' of a trial is {data[name]!r}")
        told = [*data["scores"].values(), *data["per_fact"], *data.get("tasks", {}).values()]
        if not all(value is None or isinstance(value, int | float) for value in told):
            raise TypeError("a score of a trial is no number")
        return cls(**{**data, "per_fact": tuple(data["per_fact"])})


_NUMBER = (int, float)
_MAYBE = (int, float, type(None))
_OPTIONAL = ("perplexity", "unedited_ns", "tasks")
_FIELDS: Mapping[str, Any] = {
    "settings": Mapping, "stage": str, "facts": int, "scores": Mapping, "per_fact": list, "goal": _NUMBER,
    "perplexity": _MAYBE, "unedited_ns": _MAYBE, "tasks": Mapping,
}  # fmt: skip


def judged(
    settings: Mapping[str, Any], stage: str, scores: Scores, unedited: Scores, perplexity: float | None = None,
    tasks: Mapping[str, float] | None = None,
) -> Trial:  # fmt: skip
    """A trial from the scores of its facts, and those of the unedited model on the same facts."""
    rows = [[scores.values(name)[i] for name in _PARTS] for i in range(len(scores.records))]
    known = [[value for value in row if value is not None] for row in rows]
    before, after = unedited["NS"], scores["NS"]
    kept = None if before is None or after is None else min(1.0, after / before) if before else 1.0
    parts = [None if scores[name] is None else float(scores[name] or 0) / 100 for name in _PARTS[:3]]
    told = [part for part in (*parts, kept) if part is not None]
    return Trial(
        settings, stage, len(rows), {name: scores[name] for name in (*_PARTS, "S")},
        tuple(statistics.fmean(row) if row else 0.0 for row in known), 100 * (harmonic_mean(told) or 0.0), perplexity,
        unedited["NS"], dict(tasks or {}),
    )  # fmt: skip


def failing(best: Trial, unedited: float | None) -> str | None:
    """Why the best trial is no way to edit this model; None where it is one."""
    es, ns = best.scores["ES"], best.scores["NS"]
    if es is not None and es < ENOUGH:
        return f"the best setting found reaches ES {es:.0f}, {ENOUGH:.0f} are asked for"
    if unedited is not None and ns is not None and ns < unedited - FAR:
        shown = "-" if es is None else f"{es:.0f}"
        return (
            f"the best setting found keeps NS {ns:.0f} of the unedited model's {unedited:.0f} (ES {shown}): "
            f"no more than {FAR:.0f} points may be lost"
        )
    return None


def weight_of(settings: Mapping[str, Any]) -> float | None:
    """The setting that the written share goes by; None for a method that has none."""
    found = settings.get("second_moment_weight", settings.get("l2"))
    return None if found is None else float(found)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Best first; of equals the one whose perplexity grew less, then the one with the larger weight."""
    return sorted(
        trials,
        key=lambda t: (
            -round(t.goal, 3),
            t.perplexity or 1.0,
            -float(t.settings.get("second_moment_weight", t.settings.get("l2", 0))),
        ),
    )


def recommended(final: Sequence[Trial], grid: Sequence[Trial]) -> Trial:
    """The best trial; a variant of it (another bound, no protection) only where the facts tell it from the plain ones.

    Args:
        final: Trials of the last stage, best first.
        grid: Trials of the stage before, whose settings are the plain ones.
    """
    plain = [trial for trial in final if any(trial.settings == one.settings for one in grid)]
    return next((trial for trial in plain if trial is final[0] or tied(final[0], trial)), final[0])


def tied(best: Trial, other: Trial) -> bool:
    """Whether the 95% interval of the paired difference per fact (normal approximation) holds 0.

    Trials of other facts are never called tied: nothing pairs them.
    """
    if len(best.per_fact) != len(other.per_fact) or best.stage != other.stage:
        return False
    differences = [a - b for a, b in zip(best.per_fact, other.per_fact, strict=True)]
    if len(differences) < 2:
        return True
    half = _Z * statistics.stdev(differences) / math.sqrt(len(differences))
    return abs(statistics.fmean(differences)) <= half or not any(differences)
