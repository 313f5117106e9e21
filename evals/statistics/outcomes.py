"""What a task leaves behind: one outcome per document, so that models are compared on the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evals.statistics.classification import WEIGHTED, f1_weighted
from evals.statistics.document_values import decode, encode
from evals.statistics.measures import Aggregation


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
        values: What the task's metrics noted for this document: a number, or whatever the task's own aggregation takes
            (`evals.statistics.document_values`). A metric of a further answer filter is named "metric,filter".
        text: What the model generated, where the task lets it.
    """

    doc_id: int
    doc_hash: str
    gold: int | None = None
    prediction: int | None = None
    correct: bool | None = None
    log_likelihoods: tuple[float, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
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
            "values": {metric: encode(value) for metric, value in self.values.items()},
        }
        return data if self.text is None else {**data, "text": self.text}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_dict`."""
        values = {metric: decode(value) for metric, value in data["values"].items()}
        return cls(**{**data, "log_likelihoods": tuple(data["log_likelihoods"]), "values": values})


@dataclass(frozen=True)
class TaskResult:
    """One task under one model.

    Attributes:
        name: The task's name.
        metrics: Value of each metric as lm-eval computes it, in the order of the task's own list; shares and
            correlations, not percent. The first is the main one (cola: mcc, sst2, mrpc and rte: acc). A metric of a
            further answer filter is named "metric,filter".
        outcomes: Per document, in the task's order.
        lower_is_better: Metrics that damage raises.
        unpaired: Metric -> why its changes cannot be told document by document; it may also lack a value.
        definition: Digest of what the numbers depend on beside the model (`evals.tasks.definition`); None for results
            of older versions.
        aggregations: Metric -> how the task makes it of what it notes of the documents. Functions are not stored:
            results that were read back have none.
        labels: How many labels a classification has, whose documents all have the same choices; None for other tasks.
    """

    name: str
    metrics: Mapping[str, float]
    outcomes: tuple[Outcome, ...]
    lower_is_better: tuple[str, ...] = ()
    unpaired: Mapping[str, str] = field(default_factory=dict)
    definition: str | None = None
    aggregations: Mapping[str, Aggregation] = field(default_factory=dict, compare=False, repr=False)
    labels: int | None = None

    @property
    def main_metric(self) -> str:
        """The metric a task is judged by: the first that it lists."""
        return next(iter(self.metrics))

    @property
    def derived(self) -> dict[str, float]:
        """What is told of a classification beside the task's own metrics: weighted F1, unless that is one of them."""
        if self.labels is None or WEIGHTED in self.metrics:
            return {}
        counts = np.zeros((self.labels, self.labels))
        for outcome in self.outcomes:
            counts[outcome.gold, outcome.prediction] += 1
        return {WEIGHTED: float(f1_weighted(counts))}

    @property
    def told(self) -> dict[str, float]:
        """The task's own metrics, the main one first, and the derived ones."""
        return {**self.metrics, **self.derived}

    @property
    def value(self) -> float:
        """Value of the main metric."""
        return self.metrics[self.main_metric]

    def to_dict(self) -> dict[str, Any]:
        """{metric: value, ..., "documents": count, "outcomes": [...], "about": {"definition", ...}}."""
        about = {
            "definition": self.definition,
            "labels": self.labels,
            "lower_is_better": list(self.lower_is_better),
            "unpaired": dict(self.unpaired),
        }
        return {
            **self.metrics,
            "documents": len(self.outcomes),
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
            "about": {name: value for name, value in about.items() if value},
        }

    @classmethod
    def from_dict(cls, name: str, data: Mapping[str, Any]) -> TaskResult:
        """The inverse of `to_dict`, which leaves the name and the functions out."""
        metrics = {k: v for k, v in data.items() if k not in ("documents", "outcomes", "about")}
        about = data.get("about") or {}
        return cls(
            name,
            metrics,
            tuple(Outcome.from_dict(outcome) for outcome in data["outcomes"]),
            tuple(about.get("lower_is_better") or ()),
            dict(about.get("unpaired") or {}),
            about.get("definition"),
            labels=about.get("labels"),
        )


TaskResults = dict[str, TaskResult]
"""Results by task name."""
