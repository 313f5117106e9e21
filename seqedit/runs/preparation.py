"""Everything that a run checks before it writes anything; what ``run --dry-run`` does is this and no more."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evals.gate_rules import split_metric
from evals.tasks.examples import TaskRows
from evals.tasks.results import metric_names
from evals.tasks.tasks import LoadedTasks, load_tasks
from ledger import Entry, Ledger
from seqedit.editing.editor import Editor
from seqedit.editing.preset_model import preset_warning
from seqedit.editing.rule import planned
from seqedit.editing.settings import BY_RULE, Given
from seqedit.errors import InputError
from seqedit.facts.reading.unusable import Skipped
from seqedit.facts.requests import Record, by_request, record_of, requests_of
from seqedit.forward.access import position_limit
from seqedit.methods import get_method
from seqedit.methods.config import EditConfig
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import moments_provider
from seqedit.parallel.ranks import Ranks
from seqedit.planning.planner import clustered_batches
from seqedit.runs.config import RunConfig
from seqedit.runs.facts import FactBatch, FactSet, batches_of_sets, given_set, load_sets, new_sets, titled
from seqedit.runs.settling import OnSettled, log_settled, settings_of, settle_run
from seqedit.runs.start import Start, check_not_there, find_start, is_there
from seqedit.scoring.gate_check import check_facts, check_tasks
from seqedit.session.task_baseline import check_same_tasks
from seqedit.text.lengths import check_records, check_requests, surely_fits
from seqedit.text.lookup import BARE, check_context_templates, tokenize_request
from seqedit.text.plain_text import TextSource, default_text

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run whose inputs are checked.

    Attributes:
        config: The run.
        start: Where it begins.
        batches: Its batches; empty where nothing is new.
        files: What is to be said of each of its files where only new ones are edited.
        skipped: What was left out of them as unusable.
        known: What a request asks for (`Request.asks`) -> its record, of all facts of the run's files, edited or not.
        edited: The unedited model; None where nothing is new.
        tasks: Its tasks; None for none.
        texts: The texts whose perplexity is measured.
        moments: What provides second moments.
        noted: What the adapters of its batches record of where settings came from (`seqedit.runs.settling`).
        noted_retry: The same of a retry by a method of its own.
    """

    config: RunConfig
    start: Start
    batches: list[FactBatch]
    files: list[str] = field(default_factory=list)
    skipped: tuple[Skipped, ...] = ()
    known: Mapping[str, Record] = field(default_factory=dict)
    edited: EditedModel | None = None
    tasks: LoadedTasks | None = None
    texts: list[str] = field(default_factory=list)
    moments: Any = None
    noted: Mapping[str, Any] = field(default_factory=dict)
    noted_retry: Mapping[str, Any] | None = None

    @property
    def records(self) -> list[Record]:
        """All records of the batches."""
        return [record for batch in self.batches for record in batch.records]

    def records_of(self, entry: Entry) -> list[Record]:
        """The records of an earlier entry's facts: those of the run's files, and the bare requests of all others."""
        return [record_of(self.known, request) for request in entry.requests]

    @property
    def earlier(self) -> list[Entry]:
        """The entries in force where the run begins."""
        return [entry for entry in self.start.history if entry.id in self.start.active]


def prepare(
    config: RunConfig,
    *,
    resume: bool = False,
    new_files: bool = False,
    records: Sequence[Record] | None = None,
    edited: EditedModel | None = None,
    ranks: Ranks | None = None,
    rehearse: bool = False,
    told: OnSettled = log_settled,
) -> Prepared:
    """Check all that a run would be refused for, before anything is written.

    Args:
        config: The run.
        resume: Continue the run that began last on its branch.
        new_files: Edit only the files that are not in the history yet.
        records: The facts, instead of reading them.
        edited: The loaded, unedited model, instead of loading it.
        ranks: Processes that do a share of the work.
        rehearse: Nothing is to follow: settings that wait for the model keep waiting, and facts are not put into
            another order by their keys.
        told: Called with the settings that were left open, once they are settled for the model.

    Raises:
        InputError: wrong configuration, facts, tasks, gates, branch or model; nothing was written.
    """
    no_file = new_files and config.files == ()
    if config.files == () and not no_file:
        raise InputError(f"field 'facts': no file matches {config.facts}")
    sets = [] if no_file else load_sets(config) if records is None else [given_set(config, records)]
    known = by_request(record for part in sets for record in part.records)
    skipped = tuple(part.skipped for part in sets if part.skipped is not None)
    for left in skipped:
        _LOG.warning("%s", left)
    said: list[str] = []
    with ExitStack() as stack:
        # What the ledger refuses is said before a model is loaded.
        ledger = stack.enter_context(Ledger.open(config.ledger)) if is_there(config.ledger) else None
        digests = [part.recorded.get("sha256", "") for part in sets] if new_files else []
        start = find_start(ledger, config, resume=resume, files=digests)
        if new_files:
            sets, said = new_sets(_in_the_order_of(sets, start.tail), start.history)
        batches = batches_of_sets(sets, config if not new_files else replace(config, steps=None))
        if new_files and config.steps is not None:
            batches = batches[: config.steps]
        if not batches:
            return Prepared(config, start, [], said or ["no file matches yet"], skipped, known)
        if ledger is not None:
            check_not_there(ledger, start, batches[0].records, config)
        prepared = Prepared(config, start, batches, said, skipped, known)
        check_facts(config.gates, _scored_batches(batches, config), config.evals.generation_records)
        _check_earlier(prepared)
        if config.context_templates is not None:
            check_context_templates(config.context_templates)
        tasks = load_tasks(list(config.tasks), task_files(config), limit=config.evals.task_documents)
        _check_tasks(config, tasks)
        text = config.evals.perplexity_text
        texts = [] if text is None else [t for t in TextSource(text) if t]
        if ledger is not None:
            check_same_tasks(ledger, tasks if config.tasks else None)
    edited = edited or _loaded(config, ranks or Ranks())
    if ledger is not None:
        Ledger.open(config.ledger, edited.base_model).close()  # refuses another model's
    _check_model(config, edited)
    moments = moments_provider(edited, config.second_moments, name=config.model, ranks=ranks)
    _check_moments(config, edited, moments)
    _check_lengths(prepared, edited, moments, ranks)
    prepared = replace(prepared, edited=edited, tasks=tasks if config.tasks else None, texts=texts, moments=moments)
    if rehearse:
        return prepared
    whole = settle_run(config, Editor(edited, moments), start.tail if resume or start.resumed else (), told)
    prepared = replace(prepared, config=whole.config, noted=whole.noted, noted_retry=whole.noted_retry)
    if config.order == "clustered":
        prepared = replace(prepared, batches=_clustered(prepared, edited, moments, ranks))
    return prepared


def _in_the_order_of(sets: Sequence[FactSet], tail: Sequence[Entry]) -> list[FactSet]:
    """The files that a resumed run has edited already first, as it did."""
    order = {digest: i for i, digest in enumerate(dict.fromkeys(e.facts_file.get("sha256", "") for e in tail))}
    return sorted(sets, key=lambda part: order.get(part.recorded.get("sha256", ""), len(order)))


def _loaded(config: RunConfig, ranks: Ranks) -> EditedModel:
    return EditedModel(*ranks.load_model(config.model, dtype=config.dtype, device=config.device), name=config.model)


def _check_model(config: RunConfig, edited: EditedModel) -> None:
    for preset in dict.fromkeys((config.preset, config.on_gate.preset)):
        if preset != BY_RULE and (warning := preset_warning(preset, edited.parts, config.model)) is not None:
            _LOG.warning("%s", warning)
    for _, settings in methods_of(config):
        edited.parts.check_layers(planned(settings, edited.parts).config.layers)


def _check_moments(config: RunConfig, edited: EditedModel, moments: Any) -> None:
    """A file of second moments is read; of a text to measure them on, its beginning."""
    wanted = config.second_moments
    for method, settings in methods_of(config):
        chosen = planned(settings, edited.parts).config
        if not get_method(method).reads_second_moments(chosen):
            continue
        if wanted.file is not None:
            moments(tuple(sorted(chosen.layers)))
        elif "/" not in (source := wanted.text or default_text(config.model)) or Path(source).exists():
            next(iter(TextSource(source)), None)


def _check_lengths(prepared: Prepared, edited: EditedModel, moments: Any, ranks: Ranks | None) -> None:
    config, limit = prepared.config, position_limit(edited.model)
    number = 0
    for batch in prepared.batches:
        for record in batch.records:
            number += 1
            try:
                tokenize_request(edited.tokenizer, record.request, with_target=True)
                check_requests(edited.tokenizer, [record.request], limit, config.context_templates or ((BARE,),))
                if config.evals.counterfact or config.evals.generation:
                    check_records(edited.tokenizer, [record], limit, generation=config.evals.generation)
            except InputError as error:
                where = config.facts if config.files is None else batch.file.get("name", config.facts)
                raise InputError(f"{where}, record {number}: {error}") from error
    near = [r.request for r in prepared.records if not surely_fits(r.request, limit)]
    if near:  # the sampled templates, which stand before the prompts, must fit too
        editor = Editor(edited, moments, context_templates=config.context_templates, seed=config.seed, ranks=ranks)
        check_requests(edited.tokenizer, near, limit, editor.context_templates)


def _clustered(prepared: Prepared, edited: EditedModel, moments: Any, ranks: Ranks | None) -> list[FactBatch]:
    """Each file's facts in batches of near keys: those of the unedited model, so that a resumed run finds the same."""
    config = prepared.config
    editor = Editor(edited, moments, context_templates=config.context_templates, seed=config.seed, ranks=ranks)
    ordered: list[FactBatch] = []
    groups: dict[str, list[FactBatch]] = {}
    for batch in prepared.batches:
        groups.setdefault(batch.file.get("sha256", ""), []).append(batch)
    for group in groups.values():
        facts = [record for batch in group for record in batch.records]
        found = clustered_batches(
            editor, requests_of(facts), config.method, settings_of(config.settings), config.batch_size, config.seed
        )  # fmt: skip
        ordered += titled(group[0].source, [[facts[i] for i in batch] for batch in found], config)
    check_facts(config.gates, _scored_batches(ordered, config), config.evals.generation_records)
    return ordered


def _check_earlier(prepared: Prepared) -> None:
    """Gates on earlier edits must be told by the facts in force where the run begins, too."""
    gates = [gate for gate in prepared.config.gates if split_metric(gate.metric)[0] == "earlier"]
    held = [record for entry in prepared.earlier for record in prepared.records_of(entry)]
    if held:
        check_facts(gates, {f"the edits that '{prepared.start.branch}' holds": held})


def _check_tasks(config: RunConfig, tasks: LoadedTasks) -> None:
    """Gates on tasks, and on their metrics as far as a task says them before its documents are scored."""
    check_tasks(config.gates, list(tasks.tasks))
    found = {name: metric_names(task) for name, task in tasks.tasks.items()}
    told = {name: dict.fromkeys(sorted(names)) for name, names in found.items() if names is not None}
    gates = [gate for gate in config.gates if split_metric(gate.metric)[0] in told]
    check_tasks(gates, list(tasks.tasks), told)


def _scored_batches(batches: Sequence[FactBatch], config: RunConfig) -> dict[str, Sequence[Record]]:
    """Every batch that the run may score, those of retries included, by what messages call it."""
    found: dict[str, Sequence[Record]] = {f"batch {n}": batch.records for n, batch in enumerate(batches, 1)}
    size = config.on_gate.batch_size if config.on_gate.action == "retry" else None
    if size is not None:
        for number, batch in enumerate(batches, 1):
            parts = [batch.records[i : i + size] for i in range(0, len(batch.records), size)]
            found |= {f"retry {part} of batch {number}": records for part, records in enumerate(parts, 1)}
    return found


def methods_of(config: RunConfig) -> list[tuple[str, EditConfig | Given]]:
    """The run's method and that of its retries."""
    retry = config.on_gate
    found: list[tuple[str, EditConfig | Given]] = [(config.method, config.settings)]
    return found if retry.method is None or retry.settings is None else [*found, (retry.method, retry.settings)]


def task_files(config: RunConfig) -> dict[str, str | TaskRows]:
    """Task -> its rows, all of which must be there.

    Raises:
        InputError: names the task whose file is missing.
    """
    files = {name: file for name, file in config.tasks.items() if file is not None}
    for name, rows in ((name, TaskRows.of(file)) for name, file in files.items()):
        for file in (rows.file, rows.fewshot_file):
            if file is not None and not Path(file).exists():
                raise InputError(f"task '{name}': no such file: {file}")
    return files


def check_start(config: RunConfig, *, resume: bool = False) -> Start:
    """Where a run would begin, if its ledger allows it; needs no model.

    Raises:
        InputError: its branch is elsewhere, or holds what it would edit.
    """
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(config.ledger)) if is_there(config.ledger) else None
        return find_start(ledger, config, resume=resume)
