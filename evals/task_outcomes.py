"""What a task leaves behind: one outcome per document, so that models are compared on the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One document of a task under one model.

    Attributes:
        doc_id: Position of the document in the task.
        doc_hash: SHA-256 of its content, lm-eval's own; the same document has the same hash at every step.
        gold: Index of the right choice; None for tasks that are not multiple choice.
        prediction: Index of the likeliest choice.
        correct: Whether they agree.
        log_likelihoods: Summed log-likelihood of every choice (or of everything else that was asked for), in nats.
        values: What the task's metrics noted for this document, where it is a number.
        text: What the model generated, where the task lets it.
    """

    doc_id: int
    doc_hash: str
    gold: int | None = None
    prediction: int | None = None
    correct: bool | None = None
    log_likelihoods: tuple[float, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON types."""
        data: dict[str, Any] = {
            "doc_id": self.doc_id,
            "doc_hash": self.doc_hash,
            "gold": self.gold,
            "prediction": self.prediction,
            "correct": self.correct,
            "log_likelihoods": list(self.log_likelihoods),
            "values": dict(self.values),
        }
        return data if self.text is None else {**data, "text": self.text}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_dict`."""
        return cls(**{**data, "log_likelihoods": tuple(data["log_likelihoods"])})


@dataclass(frozen=True)
class TaskResult:
    """One task under one model.

    Attributes:
        name: The task's name.
        metrics: Value of each metric as lm-eval computed it, in the order of the task's own list; shares and
            correlations, not percent. The first is the main one (cola: mcc, sst2, mrpc and rte: acc).
        outcomes: Per document, in the task's order.
    """

    name: str
    metrics: Mapping[str, float]
    outcomes: tuple[Outcome, ...]

    @property
    def main_metric(self) -> str:
        """The metric a task is judged by: the first that it lists."""
        return next(iter(self.metrics))

    @property
    def value(self) -> float:
        """Value of the main metric."""
        return self.metrics[self.main_metric]

    def to_dict(self) -> dict[str, Any]:
        """{metric: value, ..., "documents": count, "outcomes": [...]}."""
        return {
            **self.metrics,
            "documents": len(self.outcomes),
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }

    @classmethod
    def from_dict(cls, name: str, data: Mapping[str, Any]) -> TaskResult:
        """The inverse of `to_dict`, which leaves the name out."""
        metrics = {k: v for k, v in data.items() if k not in ("documents", "outcomes")}
        return cls(name, metrics, tuple(Outcome.from_dict(outcome) for outcome in data["outcomes"]))


TaskResults = dict[str, TaskResult]
"""Results by task name."""
