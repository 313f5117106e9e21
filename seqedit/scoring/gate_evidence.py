"""What gates need of a step beside its averages: the same facts under the unedited model, kept in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evals.scores.paired import paired_scores
from evals.scores.scores import Scores
from evals.scores.survey import RecordSample
from ledger import Ledger
from seqedit.scoring.evaluator import Evaluator, StepScores
from seqedit.scoring.fact_baseline import FactBaseline
from seqedit.scoring.kinds import KIND_FAILURE as KIND_FAILURE  # its place until it was needed without torch

KIND_PAIRED = "paired"
"""Group of facts ("new", "earlier") -> score -> `evals.scores.paired.PairedScore.to_dict`."""


@dataclass(frozen=True)
class Evidence:
    """Scores of the same facts under the unedited and the edited model.

    Attributes:
        new: Of the new batch: score -> `PairedScore.to_dict`.
        earlier: Of the earlier batches' facts that were scored.
    """

    new: dict[str, dict[str, Any]]
    earlier: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As a step that is held against gates has it, and the ledger."""
        return {"new": self.new, "earlier": self.earlier}


def paired_evidence(ledger: Ledger, evaluator: Evaluator, scores: StepScores) -> Evidence:
    """Pair a step's facts with the unedited model's scores of them.

    Args:
        ledger: The ledger; its root holds the unedited model's scores of these records.
        evaluator: What measured the step.
        scores: The step, as `Evaluator.step` gave it.

    Raises:
        CheckFailed: the ledger lacks one of the records.
    """
    groups: dict[str, dict[str, Any]] = {"new": {}, "earlier": {}}
    for name, facts in (("new", scores.scored_new), ("earlier", scores.scored_earlier)):
        if facts is None or not facts.records:
            continue
        before = FactBaseline(ledger, evaluator, facts.records).scores()
        groups[name] = _paired(before, facts.scores, facts.sample)
    return Evidence(**groups)


def _paired(before: Scores, after: Scores, sample: RecordSample | None) -> dict[str, Any]:
    if sample is None:
        found = paired_scores(before, after)
    else:
        # As for the averages: about this history where a part of it was scored, else about edits of its kind.
        found = paired_scores(before, after, sample.strata, sample.sizes, finite=not sample.exact)
    return {name: score.to_dict() for name, score in found.items()}
