"""One number of a state, from the ledger where it is there already, else measured and written to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from evals.scores.scores import METRICS
from evals.statistics.outcomes import TaskResult
from ledger.ledger import Ledger
from seqedit.errors import CheckFailed, InputError
from seqedit.facts.requests import Record
from seqedit.scoring.conditions import keep_conditions
from seqedit.scoring.kinds import KIND_FIXED, KIND_OUTCOMES
from seqedit.support.digests import json_digest
from seqedit.support.suggestions import did_you_mean

if TYPE_CHECKING:
    from evals.tasks.tasks import LoadedTasks
    from seqedit.session.session import Session

__all__ = ["KIND_FIXED", "DivergenceMetric", "FactMetric", "PerplexityMetric", "StateMetric", "TaskMetric"]


class StateMetric(Protocol):
    """A metric of states.

    Attributes:
        name: What it is called.
        lower_is_better: Whether damage raises it.
    """

    name: str
    lower_is_better: bool

    def stored(self, ledger: Ledger, entry: str) -> float | None:
        """The value that the ledger holds for a state, or None."""

    def check(self, entry: str) -> None:
        """Refuse what `measure` would refuse before it measures."""

    def measure(self, session: Session, entry: str) -> float:
        """The value of the state the model is at, which is written to the ledger as that of ``entry``."""


class TaskMetric:
    """A metric of an lm-eval task, e.g. ``cola.mcc``.

    Args:
        task: Name of the task.
        metric: Its metric; None for the main one.
        loaded: The task, to measure states that the ledger has no outcomes of; None where all must be there.
    """

    lower_is_better = False  # until a result says otherwise

    def __init__(self, task: str, metric: str | None, loaded: LoadedTasks | None) -> None:
        self.task, self.metric, self.loaded = task, metric, loaded
        self.name = f"{task}.{metric}" if metric else task
        self._documents: list[str] | None = None
        self._definition = None if loaded is None else loaded.definitions.get(task)

    def stored(self, ledger: Ledger, entry: str) -> float | None:
        """From the outcomes of the task that a run has left."""
        data = ledger.state_scores(entry, KIND_OUTCOMES).get(self.task)
        if data is None:
            return None
        result = TaskResult.from_dict(self.task, data)
        other = result.definition is not None and self._definition not in (None, result.definition)
        if other and self.loaded is not None:
            return None  # measured with another definition of the task: it is measured anew
        return self._value(result, entry)

    def check(self, entry: str) -> None:
        """Without the task there is nothing to measure."""
        if self.loaded is None:
            raise InputError(
                f"the ledger has no outcomes of task '{self.task}' for entry {entry[:12]}; give the task to measure "
                f"it, e.g. --task {self.task}=FILE.jsonl"
            )

    def measure(self, session: Session, entry: str) -> float:
        """Evaluates the task."""
        from evals.tasks.tasks import evaluate_tasks

        self.check(entry)
        assert self.loaded is not None
        keep_conditions(session.ledger, session.edited.tokenizer, tasks=True)
        result = evaluate_tasks(session.edited.model, session.edited.tokenizer, self.loaded)[self.task]
        value = self._value(result, entry)
        if self.task not in session.ledger.scores(entry, KIND_OUTCOMES).get(KIND_OUTCOMES, {}):
            # What a run has left belongs to its own definition of the task.
            session.ledger.add_scores(entry, KIND_OUTCOMES, {self.task: result.to_dict()})
        return value

    def _value(self, result: TaskResult, entry: str) -> float:
        documents = [outcome.doc_hash for outcome in result.outcomes]
        if self._documents is None:
            self._documents = documents
        elif documents != self._documents:
            raise CheckFailed(
                f"task '{self.task}' at entry {entry[:12]} was measured on other documents than elsewhere; values of "
                "different documents cannot be compared"
            )
        if result.definition is not None:
            if self._definition not in (None, result.definition):
                raise CheckFailed(
                    f"task '{self.task}' at entry {entry[:12]} was measured with another definition of the task than "
                    "elsewhere (prompt, metric or examples); give the task to measure it anew"
                )
            self._definition = result.definition
        self.lower_is_better = (self.metric or result.main_metric) in result.lower_is_better
        if self.metric is None:
            return result.value
        if self.metric not in result.told:
            hint = did_you_mean(self.metric, result.told)
            there = ", ".join(result.told)
            raise InputError(f"task '{self.task}' has no metric '{self.metric}' (it has: {there}){hint}")
        return result.told[self.metric]


class FactMetric:
    """A CounterFact or zsRE score, e.g. ``ES``, of a fixed set of records."""

    lower_is_better = False

    def __init__(self, name: str, records: Sequence[Record]) -> None:
        if name not in METRICS:
            known = (*METRICS, "ppl", "kl")
            hint = did_you_mean(name, known)
            raise InputError(f"unknown score '{name}' (known: {', '.join(known)}, and TASK.METRIC){hint}")
        self.name, self.records = name, list(records)
        self._digest = json_digest([record.to_dict() for record in self.records])[:16]

    def stored(self, ledger: Ledger, entry: str) -> float | None:
        """From an earlier measurement of the same records."""
        value = ledger.state_scores(entry, KIND_FIXED).get(self._key(self.name))
        return None if value is None else float(value)

    def check(self, entry: str) -> None:
        """Records can always be scored."""

    def measure(self, session: Session, entry: str) -> float:
        """Scores the records; all scores are kept."""
        from evals.scores.counterfact import score_records

        keep_conditions(session.ledger, session.edited.tokenizer)
        scores = score_records(session.edited.model, session.edited.tokenizer, self.records).summary
        session.ledger.add_scores(
            entry, KIND_FIXED, {self._key(name): value for name, value in scores.items() if value is not None}
        )
        value = scores[self.name]
        if value is None:
            raise InputError(f"no record can tell '{self.name}': they lack the prompts or the true answers for it")
        return value

    def _key(self, name: str) -> str:
        return f"{name}:{self._digest}"


class PerplexityMetric:
    """Perplexity on plain texts."""

    name, lower_is_better = "ppl", True

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.key = f"nll:{json_digest(self.texts)[:16]}"  # its exponential may be infinite, which JSON has not

    def stored(self, ledger: Ledger, entry: str) -> float | None:
        """From an earlier measurement of the same texts."""
        from evals.likelihood.perplexity import perplexity_of

        nll = ledger.state_scores(entry, KIND_FIXED).get(self.key)
        return None if nll is None else perplexity_of(float(nll))

    def check(self, entry: str) -> None:
        """Texts can always be scored."""

    def measure(self, session: Session, entry: str) -> float:
        """Scores the texts."""
        from evals.likelihood.perplexity import score_perplexity

        keep_conditions(session.ledger, session.edited.tokenizer)
        found = score_perplexity(session.edited.model, session.edited.tokenizer, self.texts)
        session.ledger.add_scores(entry, KIND_FIXED, {self.key: found.nll})
        return found.value


class DivergenceMetric:
    """KL(p_unedited || p_edited) on plain texts, in nats per token: 0 where nothing was edited."""

    name, lower_is_better = "kl", True

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.key = f"kl:{json_digest(self.texts)[:16]}"

    def stored(self, ledger: Ledger, entry: str) -> float | None:
        """From an earlier measurement of the same texts; of a state without edits it is known."""
        if not ledger.active_ids(entry):
            return 0.0
        value = ledger.state_scores(entry, KIND_FIXED).get(self.key)
        return None if value is None else float(value)

    def check(self, entry: str) -> None:
        """Texts can always be scored."""

    def measure(self, session: Session, entry: str) -> float:
        """Runs the texts through the model with its edits on and off."""
        from evals.likelihood.divergence import score_divergence

        keep_conditions(session.ledger, session.edited.tokenizer)
        edited = session.edited
        found = min(score_divergence(edited.model, edited.tokenizer, self.texts, edited.unedited).kl, 1e300)
        session.ledger.add_scores(entry, KIND_FIXED, {self.key: found})
        return found
