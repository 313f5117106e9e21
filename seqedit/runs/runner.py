"""The main job: a sequence of batches, each an adapter in the ledger, each step scored; resumable."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from evals.tasks.examples import TaskRows
from evals.tasks.tasks import load_tasks
from ledger import Entry, Ledger
from ledger.database.places import has_ledger
from ledger.url_secrets import without_password
from seqedit.editing.preset_model import preset_warning
from seqedit.errors import InputError
from seqedit.facts.requests import Record, check_batch, requests_of
from seqedit.forward.access import position_limit
from seqedit.methods import get_method
from seqedit.methods.config import EditConfig
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import moments_provider
from seqedit.parallel.ranks import Ranks
from seqedit.planning.planner import clustered_batches
from seqedit.runs.callbacks import Callback, Told
from seqedit.runs.config import RunConfig
from seqedit.runs.driver import Driver
from seqedit.runs.facts import load_facts, reference_texts
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.fact_baseline import FactBaseline
from seqedit.scoring.gate_check import check_facts, check_tasks
from seqedit.scoring.split import SplitScoring
from seqedit.scoring.summary import build_summary, write_summary
from seqedit.scoring.summary_types import RunSummary, StepSummary
from seqedit.session.evaluate import measure_baseline
from seqedit.session.session import Session
from seqedit.session.task_baseline import check_same_tasks
from seqedit.text.lengths import check_records, check_requests, surely_fits
from seqedit.text.lookup import BARE, check_context_templates, tokenize_request
from seqedit.text.plain_text import TextSource

_LOG = logging.getLogger(__name__)

OnBaseline = Callable[[dict[str, Any]], None]
OnStep = Callable[[StepSummary], None]


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    on_baseline: OnBaseline | None = None,
    on_step: OnStep | None = None,
    records: Sequence[Record] | None = None,
    edited: EditedModel | None = None,
    callbacks: Sequence[Callback] = (),
    ranks: Ranks | None = None,
) -> RunSummary:
    """Run a whole configuration and leave ledger and ``summary.json`` behind.

    A run that was stopped anywhere continues with ``resume``: finished entries are kept, a missing score of the
    last one is made up, and the rest gives the same entries as an uninterrupted run would (but for their times).

    Args:
        config: What to do.
        resume: Continue an existing ledger.
        on_baseline: Called with the baseline scores.
        on_step: Called with each step's part of the summary.
        records: The facts, instead of reading ``config.facts``.
        edited: The loaded, unedited model, instead of loading ``config.model``.
        callbacks: Told of the beginning, the baseline, every step and the end; closed whatever happens.
        ranks: Processes that do a share of the work; ``edited``, if given, is theirs (`Ranks.load_model`).

    Returns:
        The summary; "stopped" says why a gate ended the run before its last batch, or is None.

    Raises:
        InputError: wrong configuration, facts or ledger; nothing was written.
        BranchMoved: another writer moved the run's branch; what was finished before is in the ledger.
    """
    watchers = [Told(on_baseline, on_step), *callbacks]
    with ExitStack() as stack:
        for callback in watchers:
            stack.callback(callback.close)
        return _run(config, resume, watchers, records, edited, ranks or Ranks())


def _run(
    config: RunConfig,
    resume: bool,
    watchers: Sequence[Callback],
    records: Sequence[Record] | None,
    edited: EditedModel | None,
    ranks: Ranks,
) -> RunSummary:
    facts = list(records if records is not None else load_facts(config))
    batches = batches_of(facts, config)
    check_facts(config.gates, _scored_batches(batches, config), config.evals.generation_records)
    if config.context_templates is not None:
        check_context_templates(config.context_templates)
    if edited is None:
        loaded = ranks.load_model(config.model, dtype=config.dtype, device=config.device)
        edited = EditedModel(*loaded, name=config.model)
    for preset in dict.fromkeys((config.preset, config.on_gate.preset)):
        if (warning := preset_warning(preset, edited.parts, config.model)) is not None:
            _LOG.warning("%s", warning)
    for _, settings in _methods(config):
        edited.parts.check_layers(settings.layers)
    limit = position_limit(edited.model)
    for number, record in enumerate((r for batch in batches for r in batch), 1):
        try:
            tokenize_request(edited.tokenizer, record.request, with_target=True)
            check_requests(edited.tokenizer, [record.request], limit, config.context_templates or ((BARE,),))
            if config.evals.counterfact or config.evals.generation:
                check_records(edited.tokenizer, [record], limit, generation=config.evals.generation)
        except InputError as error:
            raise InputError(f"{config.facts}, record {number}: {error}") from error
    tasks = load_tasks(list(config.tasks), _task_files(config), limit=config.evals.task_documents)
    check_tasks(config.gates, list(tasks.tasks))
    texts = [] if config.evals.perplexity_text is None else [t for t in TextSource(config.evals.perplexity_text) if t]
    moments = moments_provider(edited, config.second_moments, name=config.model, ranks=ranks)
    for method, settings in _methods(config):
        if get_method(method).needs_second_moments:
            moments(tuple(sorted(settings.layers)))  # measured into the cache before anything is written
    with _open_ledger(config, edited, resume) as ledger:
        templates, seed = config.context_templates, config.seed
        session = Session(
            edited, ledger, moments, context_templates=templates, seed=seed, ranks=ranks, branch=config.branch
        )
        if config.order == "clustered":
            batches = _clustered(session, batches, config)
        split = SplitScoring(ranks)
        every = [r for batch in batches for r in batch]
        near = [r.request for r in every if not surely_fits(r.request, limit)]
        if near:  # the sampled templates, which stand before the prompts, are known only now
            check_requests(edited.tokenizer, near, limit, session.context_templates)
        evaluator = Evaluator(
            edited.tokenizer, config.evals, tasks=tasks if config.tasks else None,
            reference_texts=reference_texts(config, every), texts=texts, seed=seed,
            scorer=split.scorer, generator=split.generator,
        )  # fmt: skip
        check_same_tasks(ledger, evaluator.tasks)
        for callback in watchers:
            callback.on_run_begin(config)
        outcomes = measure_baseline(session, evaluator, every)
        # Of this run's facts, though a later run of the ledger may be about others.
        averages = FactBaseline(ledger, evaluator, every).averages() if config.evals.counterfact else {}
        baseline = build_summary(ledger, session.tip, title=config.title)["baseline"]
        check_tasks(config.gates, list(tasks.tasks), baseline)
        for callback in watchers:
            callback.on_baseline(baseline)

        def told(entry: Entry) -> None:
            summary = build_summary(ledger, session.tip, title=config.title)
            write_summary(config.out / "summary.json", summary)
            step = next(step for step in summary["steps"] if step["entry"] == entry.id)
            for callback in watchers:
                callback.on_step(step)

        stopped = Driver(session, config, evaluator, outcomes, told, averages).drive(batches)
        summary = build_summary(ledger, session.tip, title=config.title)
        summary["stopped"] = stopped
    write_summary(config.out / "summary.json", summary)
    for callback in watchers:
        callback.on_run_end(summary)
    return summary


def batches_of(facts: Sequence[Record], config: RunConfig) -> list[list[Record]]:
    """The batches of a run.

    Raises:
        InputError: too few facts, or a batch that holds a fact twice; names it.
    """
    if config.shuffle:
        facts = random.Random(config.seed).sample(facts, len(facts))
    wanted = len(facts) if config.steps is None else config.steps * config.batch_size
    if len(facts) < wanted:
        raise InputError(
            f"{config.facts} holds {len(facts)} records, {config.steps} steps of {config.batch_size} need {wanted}"
        )
    batches = [list(facts[i : i + config.batch_size]) for i in range(0, wanted, config.batch_size)]
    for number, batch in enumerate(batches, 1):
        try:
            check_batch(requests_of(batch))
        except InputError as error:
            raise InputError(f"{config.facts}, batch {number}: {error}") from error
    return batches


def _clustered(session: Session, batches: Sequence[Sequence[Record]], config: RunConfig) -> list[list[Record]]:
    """The run's facts in batches of near keys: those of the unedited model, so that a resumed run finds the same."""
    facts = [record for batch in batches for record in batch]
    with session.edited.unedited():
        found = clustered_batches(
            session.editor, requests_of(facts), config.method, config.settings, config.batch_size, config.seed
        )  # fmt: skip
    ordered = [[facts[i] for i in batch] for batch in found]
    check_facts(config.gates, _scored_batches(ordered, config), config.evals.generation_records)
    return ordered


def _scored_batches(batches: Sequence[Sequence[Record]], config: RunConfig) -> dict[str, Sequence[Record]]:
    """Every batch that the run may score, those of retries included, by what messages call it."""
    found = {f"batch {number}": batch for number, batch in enumerate(batches, 1)}
    size = config.on_gate.batch_size if config.on_gate.action == "retry" else None
    if size is not None:
        for number, batch in enumerate(batches, 1):
            parts = [batch[i : i + size] for i in range(0, len(batch), size)]
            found |= {f"retry {part} of batch {number}": records for part, records in enumerate(parts, 1)}
    return found


def _methods(config: RunConfig) -> list[tuple[str, EditConfig]]:
    """The run's method and that of its retries."""
    retry = config.on_gate
    other = [] if retry.method is None or retry.settings is None else [(retry.method, retry.settings)]
    return [(config.method, config.settings), *other]


def _task_files(config: RunConfig) -> dict[str, str | TaskRows]:
    files = {name: file for name, file in config.tasks.items() if file is not None}
    for name, rows in ((name, TaskRows.of(file)) for name, file in files.items()):
        for file in (rows.file, rows.fewshot_file):
            if file is not None and not Path(file).exists():
                raise InputError(f"task '{name}': no such file: {file}")
    return files


def _open_ledger(config: RunConfig, edited: EditedModel, resume: bool) -> Ledger:
    place = config.ledger
    if "://" not in place and not has_ledger(place):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        ledger = Ledger.create(place, edited.base_model)
    else:
        ledger = Ledger.open(place, edited.base_model)
    try:
        if config.branch not in ledger.branches():
            ledger.start_branch(config.branch, ledger.root())
        ledger.switch(config.branch)
        if len(ledger.log(config.branch)) > 1 and not resume:
            raise InputError(
                f"branch '{config.branch}' of the ledger {without_password(place)} holds entries already; continue "
                "them with --resume, or choose another ledger, branch or --out"
            )
    except BaseException:
        ledger.close()
        raise
    return ledger
