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
    """

    settings: Mapping[str, Any]
    stage: str
    facts: int
    scores: Mapping[str, float | None]
    per_fact: tuple[float, ...] = field(repr=False)
    goal: float
    perplexity: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The trial as JSON types."""
        return {**asdict(self), "settings": dict(self.settings), "per_fact": list(self.per_fact)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        """Back from `to_dict`."""
        return cls(**{**data, "per_fact": tuple(data["per_fact"])})


def judged(
    settings: Mapping[str, Any], stage: str, scores: Scores, unedited: Scores, perplexity: float | None = None
) -> Trial:
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
    )  # fmt: skip


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Best first; of equals the one whose perplexity grew less, then the one with the larger weight."""
    return sorted(
        trials,
        key=lambda t: (-round(t.goal, 3), t.perplexity or 1.0, -float(t.settings.get("second_moment_weight", 0))),
    )


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
