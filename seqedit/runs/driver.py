"""A run's sequence of batches, with gates: what is done after each step, and how an interrupted run is taken up.

The driver walks through what the run would do and, at every step, first looks whether the branch holds it already: so
a resumed run follows the same path, reverts and retries included, and everything it decides on is in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from evals.gate_rules import CHANGES, GENERATION, split_metric
from evals.gates import GateResult, broken_gates, check_gates
from evals.statistics.changes import paired_change
from evals.statistics.outcomes import TaskResult
from ledger import Entry
from seqedit.errors import InputError, NumericsError
from seqedit.facts.requests import Record, requests_of
from seqedit.methods.config import EditConfig
from seqedit.runs.config import RunConfig
from seqedit.runs.facts import FactBatch
from seqedit.runs.settling import settings_of
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.gate_evidence import KIND_FAILURE, KIND_PAIRED, paired_evidence
from seqedit.scoring.kinds import KIND_BASELINE, KIND_GATES, KIND_OUTCOMES
from seqedit.scoring.summary import baseline_of, step_of
from seqedit.session.evaluate import unedited_drift
from seqedit.session.session import Session

MakeEntry = Callable[[Sequence[Record], str, EditConfig, str, Mapping[str, Any], Mapping[str, str]], Entry]


class Driver:
    """Carries out the batches of a run.

    Args:
        session: Model and ledger, on the run's branch.
        config: The run.
        evaluator: What is measured after each step.
        outcomes: Task outcomes of the unedited model.
        on_entry: Called with every new entry when it is scored.
        averages: CounterFact averages of the unedited model over the run's facts, noted beside every entry.
        there: Entries of the run that the branch holds already, oldest first; by default all of the branch after
            ``start``.
        edit: Makes the entry of a batch (records, method, settings, message, noted, facts_file); by default
            `Session.edit`.
        noted: What the adapters of batches record of where settings came from (`Settled.provenance`).
        noted_retry: The same of a retry by a method of its own; by default ``noted``.
        start: Id of the entry that the run begins at; the root by default.
        records: Entry id -> its records, of the entries before.
    """

    unscored = "revert it, or continue with --resume once the cause is gone"
    """What can be done about an entry that cannot be scored."""

    def __init__(
        self,
        session: Session,
        config: RunConfig,
        evaluator: Evaluator,
        outcomes: Mapping[str, Any],
        on_entry: Callable[[Entry], None],
        averages: Mapping[str, Any] | None = None,
        *,
        there: Iterable[Entry] | None = None,
        edit: MakeEntry | None = None,
        noted: Mapping[str, Any] | None = None,
        noted_retry: Mapping[str, Any] | None = None,
        start: str | None = None,
        records: Mapping[str, Sequence[Record]] | None = None,
    ) -> None:
        self.noted = dict(noted or {})
        self.noted_retry = self.noted if noted_retry is None else dict(noted_retry)
        self.session, self.config, self.evaluator, self.outcomes = session, config, evaluator, outcomes
        self.on_entry = on_entry
        self.ledger = session.ledger
        self.start = start or self.ledger.root()
        log = self.ledger.log(session.tip)[::-1]
        place = [entry.id for entry in log].index(self.start)
        # Without notes of what a rebase dropped, which are no part of any run.
        found = (entry for entry in log[place + 1 :] if entry.operation != "rebase")
        self.there: Iterator[Entry] = iter(found if there is None else there)
        self._edit = edit or self._edited
        self.number = 0
        self.records: dict[str, Sequence[Record]] = dict(records or {})
        self.averages = dict(averages or {})
        baseline = baseline_of(self.ledger, self.ledger.entry(self.ledger.root()))
        self.baseline = {**baseline, "drift": unedited_drift(self.ledger, evaluator)}

    def drive(self, batches: Sequence[FactBatch]) -> str | None:
        """Do all batches.

        Returns:
            Why the run stopped before the last of them; None where it did not.

        Raises:
            InputError: the branch holds entries that are not this run's, or a gate's score is told by no fact.
            NumericsError: a batch, or the model that it leaves behind, is not finite, and there is no gate; the entry,
                if one was made, stays, with the reason.
        """
        config = self.config
        for number, batch in enumerate(batches, 1):
            self.number = number
            name = f"{batch.title or f'step {number}'}: {len(batch.records)} facts by {config.method}"
            settings = settings_of(config.settings)
            entry, tripped = self._attempt(batch, batch.records, config.method, settings, name, self.noted)
            if not tripped:
                continue
            why = f"step {number}: {'; '.join(map(str, tripped))}"
            if config.on_gate.action == "stop":
                return self._left(why)
            self._revert(entry, tripped)
            if config.on_gate.action == "revert":
                if config.on_gate.then == "stop":
                    return self._left(f"{why}; reverted")
                continue
            failed = self._retry(number, batch)
            if failed is not None:
                return self._left(f"{why}; {failed}")
        return self._left(None)

    def _retry(self, number: int, whole: FactBatch) -> str | None:
        """A batch once more, as the configuration says; why that failed too, or None."""
        retry, batch = self.config.on_gate, whole.records
        size = retry.batch_size or len(batch)
        method, settings = retry.method or self.config.method, settings_of(retry.settings or self.config.settings)
        parts = [batch[i : i + size] for i in range(0, len(batch), size)]
        for part_number, part in enumerate(parts, 1):
            title = whole.title or f"step {number}"
            name = f"{title}, retry {part_number} of {len(parts)}: {len(part)} facts by {method}"
            entry, tripped = self._attempt(whole, part, method, settings, name, self.noted_retry)
            if tripped:
                self._revert(entry, tripped)
                if retry.then == "stop":
                    return f"retry {part_number} of {len(parts)}: {'; '.join(map(str, tripped))}; reverted"
        return None

    def _attempt(
        self,
        source: FactBatch,
        batch: Sequence[Record],
        method: str,
        settings: EditConfig,
        message: str,
        noted: Mapping[str, Any],
    ) -> tuple[Entry, list[GateResult]]:
        """One batch as an entry, scored, and the gates that it trips."""
        entry = next(self.there, None)
        if entry is not None:
            self._check(entry, batch, method, settings)
        else:
            entry = self._edit(batch, method, settings, message, {**noted, **source.noted}, source.file)
        self.records[entry.id] = batch
        results = self._decided(entry)
        if results is None:
            reason = self._scored(entry)
            if reason is not None and not self.config.gates:
                raise NumericsError(
                    f"{message}: the model after entry {entry.id[:12]} cannot be scored: {reason}; the entry stays: "
                    f"{self.unscored}"
                )
            results = self._gates(entry, reason)
        self.on_entry(entry)
        return entry, [result for result in results if result.tripped]

    def _edited(
        self, batch: Sequence[Record], method: str, settings: EditConfig, message: str, noted: Mapping[str, Any],
        facts_file: Mapping[str, str],
    ) -> Entry:  # fmt: skip
        return self.session.edit(
            requests_of(batch), method, settings, message=message, noted=noted, facts_file=facts_file
        )

    def _decided(self, entry: Entry) -> list[GateResult] | None:
        """What was decided of an entry's gates when it was made; None where something is still to be done.

        What followed, a revert or not, followed from that, whichever version of this program decides anew.
        """
        stored = self.ledger.scores(entry.id, KIND_GATES).get(KIND_GATES, {})
        complete = self.session.is_scored(entry.id) or self._failure(entry) is not None
        if not self.config.gates or not complete or any(gate.name not in stored for gate in self.config.gates):
            return None
        return [GateResult.from_dict(stored[gate.name]) for gate in self.config.gates]

    def _failure(self, entry: Entry) -> str | None:
        reason: str | None = self.ledger.scores(entry.id, KIND_FAILURE).get(KIND_FAILURE, {}).get("reason")
        return reason

    def _scored(self, entry: Entry) -> str | None:
        """Score an entry unless it is scored already.

        Returns:
            Why its model cannot be scored, which the ledger then holds too; None where it is scored.
        """
        known, scored = self._failure(entry), self.session.is_scored(entry.id)
        paired = not self.config.gates or KIND_PAIRED in self.ledger.scores(entry.id, KIND_PAIRED)
        if scored and paired and known is None:
            return None
        if entry.id != self.session.tip:  # only the last entry of a run can lack its scores
            if scored or known is not None:
                return known
            raise self._foreign(next(self.there), f"part of this run, which stopped before it scored {entry.id[:12]}")
        if self.averages:
            self.ledger.add_scores(entry.id, KIND_BASELINE, {"counterfact": self.averages})
        try:
            scores = self.session.score(self.evaluator, self.records, self.outcomes)
        except NumericsError as error:
            self.ledger.add_scores(entry.id, KIND_FAILURE, {"reason": str(error)})
            return str(error)
        if self.config.gates:
            evidence = paired_evidence(self.ledger, self.evaluator, scores)
            self.ledger.add_scores(entry.id, KIND_PAIRED, evidence.to_dict())
        if known is not None:
            self.ledger.add_scores(entry.id, KIND_FAILURE, {"reason": None})
        return None

    def _gates(self, entry: Entry, failed: str | None) -> list[GateResult]:
        gates = self.config.gates
        if not gates:
            return []
        if failed is None:
            step = {**step_of(self.ledger, entry), **self.ledger.scores(entry.id, KIND_PAIRED)}
            for gate in gates:
                place, name = split_metric(gate.metric)
                compared = gate.kind in CHANGES or gate.level is not None
                if KIND_PAIRED not in step and place in ("", "earlier") and name not in GENERATION and compared:
                    raise InputError(
                        f"gate '{gate.name}': entry {entry.id[:12]} was scored without being compared with the "
                        "unedited model record by record; resume with the gates that the run began with, or begin anew"
                    )
            results = check_gates(gates, step, self.baseline, lambda *of: self._interval(entry, *of))
        else:
            results = broken_gates(gates, failed)
        stored = {result.gate: result.to_dict() for result in results}
        if self.ledger.scores(entry.id, KIND_GATES).get(KIND_GATES) != stored:
            self.ledger.add_scores(entry.id, KIND_GATES, stored)
        return results

    def _interval(self, entry: Entry, task: str, metric: str, level: float) -> tuple[float, float]:
        after = TaskResult.from_dict(task, self.ledger.scores(entry.id, KIND_OUTCOMES)[KIND_OUTCOMES][task])
        before = TaskResult.from_dict(task, self.outcomes[task])
        found = paired_change(
            metric, before.outcomes, after.outcomes, seed=self.config.seed, level=level,
            resamples=self.config.evals.resamples, aggregation=self.evaluator.aggregation(task, metric),
        )  # fmt: skip
        return found.ci_low, found.ci_high

    def _revert(self, entry: Entry, tripped: Sequence[GateResult]) -> None:
        done = next(self.there, None)
        if done is None:
            message = f"gate: {'; '.join(result.gate for result in tripped)}: revert {entry.message}"
            self.on_entry(self.session.revert(entry.id, message=message, reason="; ".join(map(str, tripped))))
        elif done.operation != "revert" or done.targets != (entry.id,):
            raise self._foreign(done, f"the revert of {entry.id[:12]}, which tripped a gate")
        else:
            self.on_entry(done)

    def _left(self, why: str | None) -> str | None:
        """``why``, unless the branch holds more than the run got to."""
        more = next(self.there, None)
        if more is not None:
            raise self._foreign(more, "part of this run, which ends before it")
        return why

    def _check(self, entry: Entry, batch: Sequence[Record], method: str, settings: EditConfig) -> None:
        if entry.operation != "edit" or tuple(entry.requests) != tuple(requests_of(batch)):
            raise self._foreign(entry, f"the next batch of this run ({len(batch)} facts)")
        wanted = {"name": method, **settings.to_dict()}
        if dict(entry.method) != wanted:
            changed = sorted(k for k in {*entry.method, *wanted} if entry.method.get(k) != wanted.get(k))
            raise InputError(
                f"entry {entry.id[:12]} was made with another '{changed[0]}' "
                f"({entry.method.get(changed[0])!r}, now {wanted.get(changed[0])!r}); a run resumes only as it began"
            )

    def _foreign(self, entry: Entry, expected: str) -> InputError:
        return InputError(
            f"entry {entry.id[:12]} on branch '{self.config.branch}' is not {expected}: {entry.operation} "
            f"'{entry.message}'; use another branch or ledger"
        )
