"""The main job: a sequence of batches, each an adapter in the ledger, each step scored; resumable."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evals.tasks import load_tasks
from ledger import Entry, Ledger
from seqedit.edited_model import EditedModel
from seqedit.errors import InputError
from seqedit.evaluation import Evaluator
from seqedit.loaders import load_records
from seqedit.lookup import check_context_templates, tokenize_request
from seqedit.methods import get_method
from seqedit.models import load_model
from seqedit.one_batch import provide_second_moments
from seqedit.requests import Record, check_batch, requests_of
from seqedit.run_config import RunConfig
from seqedit.session import KIND_OUTCOMES, Session
from seqedit.summary import build_summary, write_summary

OnStep = Callable[[dict[str, Any]], None]


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    on_baseline: OnStep | None = None,
    on_step: OnStep | None = None,
    records: Sequence[Record] | None = None,
    edited: EditedModel | None = None,
) -> dict[str, Any]:
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

    Returns:
        The summary.

    Raises:
        InputError: wrong configuration, facts or ledger; nothing was written.
    """
    facts = list(records if records is not None else load_records(config.facts))
    batches = batches_of(facts, config)
    if config.context_templates is not None:
        check_context_templates(config.context_templates)
    if edited is None:
        edited = EditedModel(*load_model(config.model, dtype=config.dtype, device=config.device), name=config.model)
    edited.parts.check_layers(config.settings.layers)
    for number, record in enumerate((r for batch in batches for r in batch), 1):
        try:
            tokenize_request(edited.tokenizer, record.request, with_target=True)
        except InputError as error:
            raise InputError(f"{config.facts}, record {number}: {error}") from error
    tasks = load_tasks(list(config.tasks), _task_files(config), limit=config.evals.task_documents)
    moments = None
    if get_method(config.method).needs_second_moments:
        moments = provide_second_moments(
            edited.model, edited.tokenizer, edited.parts, config.model, edited.base_model.fingerprint,
            config.settings.layers, text=config.second_moments.text, max_tokens=config.second_moments.max_tokens,
            file=None if config.second_moments.file is None else Path(config.second_moments.file),
            sequence_length=config.second_moments.sequence_length,
        )  # fmt: skip
    with _open_ledger(config, edited, resume) as ledger:
        session = Session(edited, ledger, moments, context_templates=config.context_templates, seed=config.seed)
        done = _finished(ledger, config, batches)
        every = [r for batch in batches for r in batch]
        evaluator = Evaluator(
            edited.tokenizer, config.evals, tasks=tasks if config.tasks else None,
            reference_texts=sorted({t for r in every for t in r.reference_texts}), seed=config.seed,
        )  # fmt: skip
        baseline = _baseline(session, evaluator, every)
        if on_baseline is not None:
            on_baseline(build_summary(ledger, config.branch, title=config.title)["baseline"])
        by_entry = {entry.id: batch for entry, batch in zip(done, batches, strict=False)}
        if done and not session.is_scored("HEAD"):
            session.score(evaluator, by_entry, baseline)
        summary = build_summary(ledger, config.branch, title=config.title)
        for step in summary["steps"]:
            if on_step is not None:
                on_step(step)
        for number, batch in enumerate(batches[len(done) :], len(done) + 1):
            message = f"step {number}: {len(batch)} facts by {config.method}"
            entry = session.edit(requests_of(batch), config.method, config.settings, message=message)
            by_entry[entry.id] = batch
            session.score(evaluator, by_entry, baseline)
            summary = build_summary(ledger, config.branch, title=config.title)
            write_summary(config.out / "summary.json", summary)
            if on_step is not None:
                on_step(summary["steps"][-1])
    write_summary(config.out / "summary.json", summary)
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


def _task_files(config: RunConfig) -> dict[str, str]:
    files = {name: file for name, file in config.tasks.items() if file is not None}
    for name, file in files.items():
        if not Path(file).is_file():
            raise InputError(f"task '{name}': no such file: {file}")
    return files


def _open_ledger(config: RunConfig, edited: EditedModel, resume: bool) -> Ledger:
    place = config.ledger
    if "://" not in place and not (Path(place) / "ledger.db").exists():
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        ledger = Ledger.create(place, edited.base_model)
    else:
        ledger = Ledger.open(place, edited.base_model)
    try:
        if config.branch not in ledger.branches():
            ledger.start_branch(config.branch, ledger.root())
        ledger.switch(config.branch)
        if len(ledger.log()) > 1 and not resume:
            raise InputError(
                f"branch '{config.branch}' of the ledger {place} holds entries already; continue them with "
                "--resume, or choose another ledger, branch or --out"
            )
    except BaseException:
        ledger.close()
        raise
    return ledger


def _finished(ledger: Ledger, config: RunConfig, batches: Sequence[Sequence[Record]]) -> list[Entry]:
    """The run's entries that are there already, oldest first; anything else on the branch is an error."""
    entries = ledger.log()[::-1][1:]
    method = {"name": config.method, **config.settings.to_dict()}
    if len(entries) > len(batches):
        raise InputError(f"branch '{config.branch}' holds {len(entries)} entries, the run has {len(batches)} steps")
    for number, (entry, batch) in enumerate(zip(entries, batches, strict=False), 1):
        if entry.operation != "edit" or tuple(entry.requests) != tuple(requests_of(batch)):
            raise InputError(
                f"entry {entry.id[:12]} on branch '{config.branch}' is not step {number} of this run: "
                f"{entry.operation} '{entry.message}'; use another branch or ledger"
            )
        if dict(entry.method) != method:
            changed = sorted(k for k in {*entry.method, *method} if entry.method.get(k) != method.get(k))
            raise InputError(
                f"entry {entry.id[:12]} was made with another '{changed[0]}' "
                f"({entry.method.get(changed[0])!r}, now {method.get(changed[0])!r}); a run resumes only as it began"
            )
    return entries


def _baseline(session: Session, evaluator: Evaluator, records: Sequence[Record]) -> dict[str, Any]:
    """Task outcomes of the unedited model, measured once per ledger and kept at its root."""
    ledger = session.ledger
    root = ledger.root()
    known = ledger.scores(root, KIND_OUTCOMES).get(KIND_OUTCOMES, {})
    if not session.is_scored(root) or any(name not in known for name in evaluator.task_names):
        session.checkout(root)
        scores = evaluator.baseline(session.edited.model, records)
        scores.new.pop("records", None)
        session.record_scores(root, scores)
        session.checkout()
    return ledger.scores(root, KIND_OUTCOMES).get(KIND_OUTCOMES, {})
