"""Scoring any state of a ledger, and holding it against gates: what continuous integration asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evals.gates import Gate, GateResult, broken_gates, check_gates
from evals.statistics import paired_change
from evals.task_outcomes import TaskResult
from ledger import Entry, Ledger
from seqedit.errors import InputError, NumericsError
from seqedit.facts.requests import Record
from seqedit.runner import measure_baseline
from seqedit.scoring.evaluator import Batch, Evaluator, StepScores
from seqedit.scoring.fact_baseline import FactBaseline
from seqedit.scoring.gate_check import check_facts, check_tasks
from seqedit.scoring.gate_evidence import KIND_PAIRED, paired_evidence
from seqedit.scoring.kinds import KIND_DRIFT
from seqedit.scoring.summary import baseline_of
from seqedit.session import Session


@dataclass(frozen=True)
class StateScores:
    """A state's scores.

    Attributes:
        entry: Id of the state's entry.
        step: The scores as a step of a summary has them.
        baseline: Those of the unedited model.
        gates: How the gates were kept.
        failure: Why the state could not be scored, which trips every gate; None where it was.
    """

    entry: str
    step: dict[str, Any]
    baseline: dict[str, Any]
    gates: tuple[GateResult, ...]
    failure: str | None = None

    @property
    def tripped(self) -> list[GateResult]:
        """The gates that were not kept."""
        return [gate for gate in self.gates if gate.tripped]


def evaluate_state(
    session: Session,
    evaluator: Evaluator,
    rev: str = "HEAD",
    *,
    records: Sequence[Record] = (),
    gates: Sequence[Gate] = (),
) -> StateScores:
    """Score a state; the ledger keeps what is measured of the unedited model, and nothing of the state.

    Args:
        session: Model and ledger; the model is at the session's own state again afterwards.
        evaluator: What to measure.
        rev: The state.
        records: Records of its facts, for paraphrases and neighbours; facts without one are scored on their request.
        gates: Limits.

    Raises:
        InputError: the state has no edits, or a gate's metric is not measured.
        NumericsError: the model's outputs are not finite, and there is no gate to say so.
    """
    ledger = session.ledger
    entry = ledger.resolve(rev)
    active, live = ledger.active(entry), ledger.live_requests(entry)
    if not active:
        raise InputError(f"the state of {entry[:12]} holds no edits: nothing to score beside the unedited model")
    known = {record.request.digest(): record for record in records}
    newest = _newest(ledger, entry, active)
    found = {e.id: [known.get(r.digest(), Record(r)) for r in e.requests] for e in active}
    every = [record for batch in found.values() for record in batch]
    check_tasks(gates, evaluator.task_names)
    check_facts(gates, {f"entry {e.id[:12]}": found[e.id] for e in active})
    outcomes = measure_baseline(session, evaluator, every, of_run=False)
    baseline = baseline_of(ledger, ledger.entry(ledger.root()))
    # The unedited model under these tasks, which may not be those that the ledger's runs have measured.
    baseline |= {n: dict(TaskResult.from_dict(n, outcomes[n]).metrics) for n in evaluator.task_names}
    if evaluator.settings.counterfact:
        # Of the very records that the state is scored on, whatever was measured of the unedited model before.
        baseline["counterfact"] = FactBaseline(ledger, evaluator, every).averages()
    check_tasks(gates, evaluator.task_names, baseline)
    try:
        session.checkout(entry)
        batches = [Batch(e.id, found[e.id], live[e.id]) for e in active]
        scores = evaluator.step(session.edited.model, batches, outcomes, new=newest.id)
    except NumericsError as error:
        if not gates:
            raise
        empty = _as_step(StepScores(), len(newest.requests))
        return StateScores(entry, empty, baseline, tuple(broken_gates(gates, str(error))), str(error))
    finally:
        session.restore()

    def interval(task: str, metric: str, level: float) -> tuple[float, float]:
        change = paired_change(
            metric, TaskResult.from_dict(task, outcomes[task]).outcomes,
            TaskResult.from_dict(task, scores.outcomes[task]).outcomes,
            level=level, resamples=evaluator.settings.resamples, seed=evaluator.seed,
            aggregation=evaluator.aggregation(task, metric),
        )  # fmt: skip
        return change.ci_low, change.ci_high

    step = _as_step(scores, len(newest.requests))
    whole = step
    if evaluator.settings.counterfact:
        whole = {**step, KIND_PAIRED: paired_evidence(ledger, evaluator, scores).to_dict()}
    before = {**baseline, "drift": ledger.scores(ledger.root(), KIND_DRIFT).get(KIND_DRIFT, {})}
    return StateScores(entry, step, baseline, tuple(check_gates(gates, whole, before, interval)))


def _newest(ledger: Ledger, entry: str, active: Sequence[Entry]) -> Entry:
    """The batch that was made last, wherever it composes."""
    made = {e.id: position for position, e in enumerate(ledger.log(entry))}
    return min(active, key=lambda e: made[e.id])


def _as_step(scores: StepScores, requests: int) -> dict[str, Any]:
    new = {name: value for name, value in scores.new.items() if name != "records"}
    return {
        **new, "requests": requests, "earlier": scores.earlier, "tasks": scores.tasks, "drift": scores.drift,
        "timings": scores.timings,
    }  # fmt: skip
