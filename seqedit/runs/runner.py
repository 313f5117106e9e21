"""The main job: a sequence of batches, each an adapter in the ledger, each step scored; resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ledger import Entry, Ledger
from seqedit.errors import Interrupted
from seqedit.facts.requests import Record
from seqedit.methods import get_method
from seqedit.models.edited import EditedModel
from seqedit.parallel.ranks import Ranks
from seqedit.runs.callbacks import Callback, Told
from seqedit.runs.config import RunConfig
from seqedit.runs.driver import Driver
from seqedit.runs.facts import reference_texts
from seqedit.runs.preparation import Prepared, methods_of, prepare
from seqedit.runs.settling import OnSettled, log_settled, settings_of
from seqedit.runs.start import begin, end, is_there
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.fact_baseline import FactBaseline
from seqedit.scoring.gate_check import check_tasks
from seqedit.scoring.losses import tell_losses
from seqedit.scoring.split import SplitScoring
from seqedit.scoring.summary import build_summary, write_summary
from seqedit.scoring.summary_types import RunSummary, StepSummary
from seqedit.session.evaluate import measure_baseline
from seqedit.session.session import Session

OnBaseline = Callable[[dict[str, Any]], None]
OnStep = Callable[[StepSummary], None]


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    new_files: bool = False,
    on_baseline: OnBaseline | None = None,
    on_step: OnStep | None = None,
    records: Sequence[Record] | None = None,
    edited: EditedModel | None = None,
    callbacks: Sequence[Callback] = (),
    ranks: Ranks | None = None,
    told: OnSettled | None = None,
) -> RunSummary:
    """Run a whole configuration and leave ledger and ``summary.json`` behind.

    It begins where ``config.onto`` says, by default at the head of its branch, and a new branch at that of HEAD's
    (`seqedit.runs.start`). A run that was stopped anywhere continues with ``resume``: finished entries are kept, a
    missing score of the last one is made up, and the rest gives the same entries as an uninterrupted run would (but
    for their times).

    Args:
        config: What to do.
        resume: Continue the run that began last on the branch.
        new_files: Edit only the files that are not in the history yet (`seqedit.runs.facts.new_sets`).
        on_baseline: Called with the baseline scores.
        on_step: Called with each step's part of the summary.
        records: The facts, instead of reading ``config.facts``.
        edited: The loaded, unedited model, instead of loading ``config.model``.
        callbacks: Told of the beginning, the baseline, every step and the end; closed whatever happens.
        ranks: Processes that do a share of the work; ``edited``, if given, is theirs (`Ranks.load_model`).
        told: Called with the settings that the configuration left open, once they are settled for the model; by default
            they are logged.

    Returns:
        The summary of the branch's whole history; "stopped" says why a gate ended the run before its last batch, or is
        None. Where ``new_files`` finds none, that of the branch as it is, and nothing is written.

    Raises:
        InputError: wrong configuration, facts or ledger; nothing was written.
        BranchMoved: another writer moved the run's branch; what was finished before is in the ledger.
        Interrupted: by Ctrl-C; says after which step.
    """
    watchers = [Told(on_baseline, on_step), *callbacks]
    with ExitStack() as stack:
        for callback in watchers:
            stack.callback(callback.close)
        try:
            ready = prepare(
                config, resume=resume, new_files=new_files, records=records, edited=edited, ranks=ranks or Ranks(),
                told=told or log_settled,
            )  # fmt: skip
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted while the inputs were checked: nothing was recorded") from error
        if not ready.batches:
            return _unchanged(ready, watchers)
        return _run(ready, watchers, ranks or Ranks())


def _unchanged(ready: Prepared, watchers: Sequence[Callback]) -> RunSummary:
    """The summary where there is nothing to do."""
    for callback in watchers:
        callback.on_start(ready)
    if not is_there(ready.config.ledger):
        return {"title": ready.config.title, "steps": [], "stopped": None}  # type: ignore[typeddict-item]
    with Ledger.open(ready.config.ledger) as ledger:
        at = ready.start.branch if not ready.start.new else ready.start.entry or "HEAD"
        return {**tell_losses(ledger, at, build_summary(ledger, at, title=ready.config.title)), "stopped": None}


def _run(ready: Prepared, watchers: Sequence[Callback], ranks: Ranks) -> RunSummary:
    config, edited = ready.config, ready.edited
    assert edited is not None
    for callback in watchers:
        callback.on_start(ready)
    try:
        for method, settings in methods_of(config):
            chosen = settings_of(settings)
            if get_method(method).reads_second_moments(chosen):
                ready.moments(tuple(sorted(chosen.layers)))  # measured into the cache before anything is written
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted while second moments were measured: nothing was recorded") from error
    with _ledger_of(ready, edited) as ledger:
        begun = begin(ledger, ready.start)
        session = Session(
            edited, ledger, ready.moments, context_templates=config.context_templates, seed=config.seed, ranks=ranks,
            branch=config.branch,
        )  # fmt: skip
        split = SplitScoring(ranks)
        every = ready.records
        evaluator = Evaluator(
            edited.tokenizer, config.evals, tasks=ready.tasks,
            reference_texts=reference_texts(config, every), texts=ready.texts, seed=config.seed,
            scorer=split.scorer, generator=split.generator,
        )  # fmt: skip
        for callback in watchers:
            callback.on_run_begin(config)
        earlier = {entry.id: ready.records_of(entry) for entry in ready.earlier}
        held = [record for records in earlier.values() for record in records]
        try:
            outcomes = measure_baseline(session, evaluator, every, also=held)
        except KeyboardInterrupt as error:
            said = "interrupted while the unedited model was scored: no step was recorded"
            raise Interrupted(said, ("--resume",)) from error
        # Of this run's facts, though a later run of the ledger may be about others.
        averages = FactBaseline(ledger, evaluator, every).averages() if config.evals.counterfact else {}
        baseline = build_summary(ledger, session.tip, title=config.title)["baseline"]
        check_tasks(config.gates, evaluator.task_names, baseline)
        for callback in watchers:
            callback.on_baseline(baseline)
        finished: list[StepSummary] = []

        def done(entry: Entry) -> None:
            summary = build_summary(ledger, session.tip, title=config.title)
            write_summary(config.out / "summary.json", summary)
            step = next(step for step in summary["steps"] if step["entry"] == entry.id)
            for callback in watchers:
                callback.on_step(step)
            finished.append(step)

        driver = Driver(
            session, config, evaluator, outcomes, done, averages, start=begun, records=earlier, noted=ready.noted,
            noted_retry=ready.noted_retry,
        )  # fmt: skip
        try:
            stopped = driver.drive(ready.batches)
        except KeyboardInterrupt as error:
            raise Interrupted(_left(session, driver, finished, len(ready.batches)), ("--resume",)) from error
        end(ledger, ready.start, begun)
        summary = tell_losses(ledger, session.tip, build_summary(ledger, session.tip, title=config.title))
        summary["stopped"] = stopped
    write_summary(config.out / "summary.json", summary)
    for callback in watchers:
        callback.on_run_end(summary)
    return summary


def _left(session: Session, driver: Driver, finished: Sequence[StepSummary], batches: int) -> str:
    """What an interrupt leaves: which step is finished, and what the next one had come to."""
    last = finished[-1] if finished else None
    if last is None:
        text = "interrupted before the first step was finished"
    else:
        text = f"interrupted after step {last['step']} (entry {last['entry'][:12]})"
    text += f", in batch {driver.number} of {batches}"
    found = session.ledger.branches().get(session.branch)
    known = {step["entry"] for step in finished}
    if found is not None and found not in known and found != driver.start:
        text += f"; entry {found[:12]} is recorded and not yet scored"
    return text


def _ledger_of(ready: Prepared, edited: EditedModel) -> Ledger:
    """The run's ledger, made where there is none."""
    place = ready.config.ledger
    if not is_there(place):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        return Ledger.create(place, edited.base_model)
    return Ledger.open(place, edited.base_model)
