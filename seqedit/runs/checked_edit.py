"""One batch of edits, told what it has taught, scored and held against gates: a run's step without a run.

What is scored, how gates are judged and what a broken one does is the run's own (`seqedit.runs.driver`): the batch is
its only one. It differs from a run's in one default: a broken gate takes the entry out of force (``revert``), since
nobody looks at a next step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from evals.gate_rules import split_metric
from evals.gates import Gate, GateResult
from evals.statistics.chance import unedited_row
from evals.statistics.outcomes import TaskResult
from ledger import Entry, Ledger
from seqedit.adapters.adapter import Adapter
from seqedit.errors import CheckFailed, InputError
from seqedit.facts.requests import Record, by_request, record_of, requests_of
from seqedit.methods import get_method
from seqedit.methods.config import EditConfig
from seqedit.runs.config import OnGate, RunConfig
from seqedit.runs.driver import Driver, MakeEntry
from seqedit.runs.facts import FactBatch, given_set
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.fact_baseline import FactBaseline
from seqedit.scoring.gate_check import check_facts, check_measured, check_tasks
from seqedit.scoring.kinds import KIND_GATES, KIND_LEARNT
from seqedit.scoring.settings import EvalSettings
from seqedit.scoring.split import SplitScoring
from seqedit.scoring.summary import baseline_of, step_of
from seqedit.scoring.summary_types import StepSummary
from seqedit.session.evaluate import measure_baseline
from seqedit.session.session import Session
from seqedit.session.task_baseline import check_same_tasks

if TYPE_CHECKING:
    from evals.tasks.tasks import LoadedTasks

OnBroken = Literal["revert", "stop"]
"""What a broken gate does to an edit: its entry is reverted, or it stays; the exit code is 1 either way."""


@dataclass(frozen=True)
class Checks:
    """What is measured after an edit, and the limits that it must keep.

    Attributes:
        gates: The limits.
        records: Records with paraphrases and neighbours of new and earlier facts; None for what the batch brings.
        tasks: lm-eval tasks; None for none.
        texts: Plain texts whose perplexity and KL are measured.
        settings: How it is measured.
        on_gate: What a broken gate does.
    """

    gates: tuple[Gate, ...] = ()
    records: Sequence[Record] | None = None
    tasks: LoadedTasks | None = None
    texts: Sequence[str] = ()
    settings: EvalSettings = EvalSettings(generation=False)
    on_gate: OnBroken = "revert"

    def __post_init__(self) -> None:
        if self.on_gate not in get_args(OnBroken):
            raise InputError(f"on_gate of an edit must be {' or '.join(get_args(OnBroken))}, got {self.on_gate!r}")

    @property
    def wanted(self) -> bool:
        """Whether anything is to be measured beyond what was learnt."""
        return bool(self.gates or self.records is not None or self.tasks is not None or self.texts)

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks."""
        return [] if self.tasks is None else list(self.tasks.tasks)

    def check(self, batch: Sequence[Record], method: str, ledger: Ledger, state: str) -> None:
        """Refuse gates on what is not measured, before a model is loaded.

        Args:
            batch: The new facts.
            method: Name of the method.
            ledger: The ledger, whose facts in force are the earlier ones.
            state: The state that is edited.

        Raises:
            InputError: names the gate and what is missing.
        """
        if not self.gates:
            return
        closed_form = get_method(method).needs_second_moments
        check_measured(
            self.gates, counterfact=self.settings.counterfact, generation=self.settings.generation,
            drift=self.settings.drift, text=bool(self.texts), moments=closed_form,
            undiagnosed=None if closed_form else method,
        )  # fmt: skip
        check_tasks(self.gates, self.task_names)
        of_new = [gate for gate in self.gates if split_metric(gate.metric)[0] == ""]
        check_facts(of_new, {"the batch": self.known(batch)}, self.settings.generation_records)
        live = ledger.live_requests(state)
        earlier = [r for e in ledger.active(state) for r in self.known([Record(e.requests[i]) for i in live[e.id]])]
        if earlier:  # without any, a gate on them is kept, as at a run's first step
            of_earlier = [gate for gate in self.gates if split_metric(gate.metric)[0] == "earlier"]
            check_facts(of_earlier, {"the earlier batches": earlier})

    def known(self, facts: Sequence[Record]) -> list[Record]:
        """Facts as the given records have them, where they do."""
        given = by_request(self.records or ())
        return [record_of(given, fact.request) if fact.request.asks() in given else fact for fact in facts]


@dataclass(frozen=True)
class CheckedEdit:
    """A batch that was edited, and how it went.

    Attributes:
        entry: Its entry.
        learnt: What it has taught (`seqedit.scoring.learnt.learnt_from`).
        step: Its scores as a step of a summary has them; None where nothing was to be measured.
        baseline: Those of the unedited model.
        gates: How the gates were kept.
        reverted: The entry that took it out of force because a gate was broken; None where it is in force.
    """

    entry: Entry
    learnt: Mapping[str, Any]
    step: StepSummary | None = None
    baseline: Mapping[str, Any] | None = None
    gates: tuple[GateResult, ...] = ()
    reverted: Entry | None = None

    @property
    def tripped(self) -> list[GateResult]:
        """The gates that were broken."""
        return [gate for gate in self.gates if gate.tripped]

    @property
    def failure(self) -> str | None:
        """What to tell of broken gates; None where all were kept."""
        if not self.tripped:
            return None
        what = f"reverted by {self.reverted.id[:12]}" if self.reverted else "it stays (on_gate: stop)"
        return f"entry {self.entry.id[:12]} breaks a gate: {'; '.join(map(str, self.tripped))}; {what}"


class GateBroken(CheckFailed):
    """An edit broke a gate.

    Attributes:
        edit: The edit, its gates and what took it out of force.
    """

    def __init__(self, edit: CheckedEdit) -> None:
        super().__init__(str(edit.failure))
        self.edit = edit


@dataclass(frozen=True)
class Recorded:
    """How the entry of a batch is recorded (`Session.edit`)."""

    message: str = ""
    author: str = ""
    when: str | None = None
    check: Callable[[Adapter], None] | None = None
    noted: Mapping[str, Any] | None = None
    facts_file: Mapping[str, str] = field(default_factory=dict)


def edit_checked(
    session: Session,
    batch: Sequence[Record],
    method: str,
    config: EditConfig,
    checks: Checks,
    recorded: Recorded,
    on_entry: Callable[[Entry], None] = lambda entry: None,
) -> CheckedEdit:
    """Edit a batch, say what it has taught, and do what `Checks` ask for.

    Args:
        session: Model and ledger.
        batch: The facts.
        method: Name of the method.
        config: Its settings.
        checks: What is measured, and the limits; `Checks.check` has passed.
        recorded: How the entry is recorded.
        on_entry: Told of the entry when it is scored, and of the revert.

    Raises:
        InputError: a task changed since the ledger's steps were measured with it, or a gate's metric is none of its.
        BranchMoved: the branch moved under the session.
        NumericsError: the model cannot be scored after the edit and there is no gate; the entry stays.
    """

    def edit(
        records: Sequence[Record], name: str, settings: EditConfig, message: str, noted: Mapping[str, Any],
        facts_file: Mapping[str, str],
    ) -> Entry:  # fmt: skip
        # The class's own: a session of the library would come here again.
        entry = Session.edit(
            session, requests_of(records), name, settings, message=recorded.message, author=recorded.author,
            when=recorded.when, check=recorded.check, noted=noted or recorded.noted,
            facts_file=facts_file or recorded.facts_file,
        )  # fmt: skip
        session.learnt()  # also of a model that cannot be scored, or whose facts are not
        return entry

    if not checks.wanted:
        made = edit(batch, method, config, "", {}, {})
        return CheckedEdit(made, session.ledger.scores(made.id, KIND_LEARNT)[KIND_LEARNT])
    return _scored(session, checks.known(batch), method, config, checks, edit, on_entry)


def _scored(
    session: Session,
    batch: list[Record],
    method: str,
    config: EditConfig,
    checks: Checks,
    edit: MakeEntry,
    on_entry: Callable[[Entry], None],
) -> CheckedEdit:
    ledger, split = session.ledger, SplitScoring(session.ranks)
    evaluator = Evaluator(
        session.edited.tokenizer, checks.settings, tasks=checks.tasks, texts=checks.texts, seed=session.seed,
        scorer=split.scorer, generator=split.generator,
    )  # fmt: skip
    check_same_tasks(ledger, evaluator.tasks)
    earlier = {e.id: checks.known([Record(r) for r in e.requests]) for e in ledger.active(session.tip)}
    every = [*(record for records in earlier.values() for record in records), *batch]
    outcomes = measure_baseline(session, evaluator, every, of_run=False)
    averages = FactBaseline(ledger, evaluator, every).averages() if checks.settings.counterfact else {}
    before = {
        **baseline_of(ledger, ledger.entry(ledger.root())),
        **{name: unedited_row(TaskResult.from_dict(name, outcomes[name])) for name in evaluator.task_names},
    }
    check_tasks(checks.gates, evaluator.task_names, before)
    made: list[Entry] = []

    def told(entry: Entry) -> None:
        made.append(entry)
        on_entry(entry)

    run = RunConfig(
        model=session.edited.base_model.name, facts=f"{len(batch)} facts", method=method, settings=config,
        batch_size=len(batch), ledger="", out=Path("."), evals=checks.settings, branch=session.branch,
        seed=session.seed, gates=checks.gates, on_gate=OnGate(checks.on_gate),
    )  # fmt: skip
    driver = Driver(session, run, evaluator, outcomes, told, averages, there=(), edit=edit)
    driver.unscored = "revert it, or edit with other settings"
    driver.records |= earlier
    driver.baseline |= before
    driver.drive([FactBatch(tuple(batch), "", given_set(run, batch))])
    entry = made[0]
    scores = ledger.scores(entry.id)
    results = tuple(GateResult.from_dict(scores[KIND_GATES][gate.name]) for gate in checks.gates)
    unedited = {**before, **({"counterfact": averages} if averages else {})}
    return CheckedEdit(entry, scores[KIND_LEARNT], step_of(ledger, entry), unedited, results, *made[1:])
