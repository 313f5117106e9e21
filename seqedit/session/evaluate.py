"""Scoring any state of a ledger, and holding it against gates: what continuous integration asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.gates import Gate, GateResult, broken_gates, check_gates
from evals.likelihood.perplexity import perplexity_of
from evals.statistics.chance import unedited_row, warn_of_chance
from evals.statistics.changes import paired_change
from evals.statistics.outcomes import TaskResult
from ledger import Entry, Ledger
from seqedit.errors import InputError, NumericsError
from seqedit.facts.reading.unusable import Skipped
from seqedit.facts.requests import Record, by_request, record_of
from seqedit.forward.protocols import Tokenizer
from seqedit.scoring.conditions import keep_conditions
from seqedit.scoring.evaluator import Batch, Evaluator, StepScores
from seqedit.scoring.fact_baseline import FactBaseline
from seqedit.scoring.gate_check import check_facts, check_tasks
from seqedit.scoring.gate_evidence import KIND_PAIRED, paired_evidence
from seqedit.scoring.kinds import KIND_ANSWERS, KIND_DIAGNOSIS, KIND_FIXED, KIND_OUTCOMES, KIND_TASKS
from seqedit.scoring.summary import baseline_of
from seqedit.session.metrics import PerplexityMetric
from seqedit.session.session import Session
from seqedit.session.task_baseline import keep_apart, known_outcomes
from seqedit.text.framing import Framing


@dataclass(frozen=True)
class StateScores:
    """A state's scores.

    Attributes:
        entry: Id of the state's entry.
        step: The scores as a step of a summary has them.
        baseline: Those of the unedited model.
        gates: How the gates were kept.
        failure: Why the state could not be scored, which trips every gate; None where it was.
        skipped: What of the given records was left out as unusable; None for nothing.
    """

    entry: str
    step: dict[str, Any]
    baseline: dict[str, Any]
    gates: tuple[GateResult, ...]
    failure: str | None = None
    skipped: Skipped | None = None

    @property
    def tripped(self) -> list[GateResult]:
        """The gates that were not kept."""
        return [gate for gate in self.gates if gate.tripped]

    def __str__(self) -> str:
        """Scores of new and earlier edits, tasks with their paired change, and gates, a line each."""
        if self.failure is not None:
            return "\n".join([f"{self.entry[:12]} cannot be scored: {self.failure}", *map(str, self.gates)])
        lines = [self.entry[:12], *([] if self.skipped is None else [str(self.skipped)])]
        for name in ("ES", "PS", "NS", "S"):
            new, earlier = self.step.get(name), (self.step.get("earlier") or {}).get(name)
            lines.append(f"{name:>12} {_number(new)}  earlier {_number(earlier)}")
        for name, row in self.step["tasks"].items():
            metric = row.get("metric") or next(key for key, value in row.items() if isinstance(value, int | float))
            line = f"{name + '.' + metric:>12} {row[metric]:8.4f}"
            if row.get("change") is not None:
                line += f"  change {row['change']:+.4f} [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]"
            lines.append(line)
        if "perplexity" in (self.step.get("drift") or {}):
            lines.append(f"{'perplexity':>12} {self.step['drift']['perplexity']:8.3f}")
        if "kl" in (self.step.get("drift") or {}):
            lines.append(f"{'KL':>12} {self.step['drift']['kl']:8.5f} nats per token to the unedited model")
        return "\n".join([*lines, *map(str, self.gates)])


def _number(value: float | None) -> str:
    return ("-" if value is None else f"{value:.2f}").rjust(8)


def evaluate_state(
    session: Session,
    evaluator: Evaluator,
    rev: str = "HEAD",
    *,
    records: Sequence[Record] = (),
    gates: Sequence[Gate] = (),
    keep: bool = False,
    framing: Framing | None = None,
) -> StateScores:
    """Score a state; the ledger keeps what is measured of the unedited model and, unless asked, nothing of the state.

    Args:
        session: Model and ledger; the model is at the session's own state again afterwards.
        evaluator: What to measure.
        rev: The state.
        records: Records of its facts, for paraphrases and neighbours; facts without one are scored on their request.
        gates: Limits.
        keep: Write the scores of the session's own state beside its entry, as a run does (`Session.score`), for `log`,
            `report` and `bisect`; those of other states are not written.
        framing: How prompts are put to the model, other than the facts were edited.

    Raises:
        InputError: the state has no edits, or a gate's metric is not measured.
        NumericsError: the model's outputs are not finite, and there is no gate to say so.
    """
    ledger = session.ledger
    entry, found = scored_facts(ledger, rev, records=records, tasks=evaluator.task_names, gates=gates)
    found = framed_facts(found, framing or Framing(), session.edited.tokenizer)
    active, live = ledger.active(entry), ledger.live_requests(entry)
    newest = _newest(ledger, entry, active)
    every = [record for batch in found.values() for record in batch]
    outcomes = measure_baseline(session, evaluator, every, of_run=False)
    baseline = baseline_of(ledger, ledger.entry(ledger.root()))
    # The unedited model under these tasks, which may not be those that the ledger's runs have measured.
    baseline |= {n: unedited_row(TaskResult.from_dict(n, outcomes[n])) for n in evaluator.task_names}
    if evaluator.settings.counterfact:
        # Of the very records that the state is scored on, whatever was measured of the unedited model before.
        baseline["counterfact"] = FactBaseline(ledger, evaluator, every).averages()
    check_tasks(gates, evaluator.task_names, baseline)
    try:
        if keep and entry == session.tip:
            scores = session.score(evaluator, found, outcomes)
        else:
            session.checkout(entry)
            batches = [Batch(e.id, found[e.id], live[e.id]) for e in active]
            scores = evaluator.step(
                session.edited.model, batches, outcomes, new=newest.id, unedited=session.edited.unedited
            )
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
    step["diagnosis"] = ledger.scores(newest.id, KIND_DIAGNOSIS).get(KIND_DIAGNOSIS)
    whole = step
    if evaluator.settings.counterfact:
        whole = {**step, KIND_PAIRED: paired_evidence(ledger, evaluator, scores).to_dict()}
    before = {**baseline, "drift": unedited_drift(ledger, evaluator)}
    return StateScores(entry, step, baseline, tuple(check_gates(gates, whole, before, interval)))


def scored_facts(
    ledger: Ledger, rev: str, *, records: Sequence[Record], tasks: Sequence[str], gates: Sequence[Gate]
) -> tuple[str, dict[str, list[Record]]]:
    """What `evaluate_state` scores, and what it refuses before it measures; no model is needed.

    Args:
        ledger: The ledger.
        rev: The state.
        records: As for `evaluate_state`.
        tasks: Names of the tasks that are measured.
        gates: Limits.

    Returns:
        Id of the state's entry, and its entries in force with a record of each of their facts.

    Raises:
        InputError: the state has no edits, or a gate's metric is not measured.
    """
    entry = ledger.resolve(rev)
    active = ledger.active(entry)
    if not active:
        raise InputError(f"the state of {entry[:12]} holds no edits: nothing to score beside the unedited model")
    known = by_request(records)
    found = {e.id: [record_of(known, request) for request in e.requests] for e in active}
    check_tasks(gates, list(tasks))
    check_facts(gates, {f"entry {e.id[:12]}": found[e.id] for e in active})
    return entry, found


def framed_facts(
    found: Mapping[str, Sequence[Record]], framing: Framing, tokenizer: Tokenizer
) -> dict[str, list[Record]]:
    """Entries with their records, put to the model in another way than they were edited where one is asked for."""
    return {entry: framing.of(records, lambda: tokenizer) for entry, records in found.items()}


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


def unedited_drift(ledger: Ledger, evaluator: Evaluator) -> dict[str, float]:
    """Perplexity of the unedited model on the evaluator's own texts, whichever others were measured; {} for none."""
    if not evaluator.texts:
        return {}
    nll = ledger.state_scores(ledger.root(), KIND_FIXED).get(PerplexityMetric(evaluator.texts).key)
    return {} if nll is None else {"perplexity": min(perplexity_of(nll), 1e300), "nll": nll}


def measure_baseline(
    session: Session,
    evaluator: Evaluator,
    records: Sequence[Record],
    *,
    also: Sequence[Record] = (),
    of_run: bool = True,
) -> dict[str, Any]:
    """Task outcomes of the unedited model; what the ledger's root lacks of them and of the records' scores is measured.

    Every number is kept by what it was measured on, so nothing is taken for that of other records or texts, and
    nothing is measured twice.

    Args:
        session: Model and ledger; the model is at HEAD again afterwards.
        evaluator: What to measure.
        records: The records that are scored later.
        also: Further ones, which are scored later and do not count in the averages: of edits before a run.
        of_run: Whether the averages over these records become the ledger's baseline, which summaries of its runs show;
            else they only do where it has none.
    """
    ledger = session.ledger
    root = ledger.root()
    keep_conditions(ledger, session.edited.tokenizer, tasks=bool(evaluator.task_names))
    known = known_outcomes(ledger, evaluator.tasks)
    facts = FactBaseline(ledger, evaluator, [*records, *also] if evaluator.settings.counterfact else [])
    missing, scored = facts.missing, session.is_scored(root)
    tasks = any(name not in known for name in evaluator.task_names)
    perplexity = PerplexityMetric(evaluator.texts)
    texts = bool(evaluator.texts) and perplexity.stored(ledger, root) is None
    scores = StepScores()
    if missing or tasks or texts:
        session.checkout(root)
        try:
            scores = evaluator.baseline(session.edited.model, missing, tasks=tasks, texts=texts)
        finally:
            session.restore()
        facts.add(scores.new.pop("records", []))
        if texts:
            ledger.add_scores(root, KIND_FIXED, {perplexity.key: scores.drift["nll"]})
    scores.new = {}
    keep_apart(ledger, scores)
    if of_run or not scored:
        scores.new = FactBaseline(ledger, evaluator, records).averages() if facts.records else {}
        scores.drift = unedited_drift(ledger, evaluator)
        session.record_scores(root, scores)
    else:
        ledger.add_scores(root, KIND_ANSWERS, scores.answers)
        ledger.add_scores(root, KIND_OUTCOMES, scores.outcomes)
        ledger.add_scores(root, KIND_TASKS, scores.tasks)
    outcomes = known_outcomes(ledger, evaluator.tasks)
    warn_of_chance(TaskResult.from_dict(name, found) for name, found in outcomes.items())
    return outcomes
