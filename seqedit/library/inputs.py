"""What users hand in, as the things that the session's functions take: facts, tasks, texts, metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from evals.gates import parse_gates
from evals.scores.scores import METRICS
from evals.tasks.examples import TaskRows
from evals.tasks.names import check_names
from seqedit.demo.location import resolve_demo_file
from seqedit.errors import InputError, RequestError
from seqedit.facts.layouts import to_record
from seqedit.facts.loading import FactsRead, read_facts
from seqedit.facts.reading.unusable import Skipped, refusal, unusable
from seqedit.facts.requests import Record, Request
from seqedit.scoring.settings import EvalSettings
from seqedit.session.metrics import DivergenceMetric, FactMetric, PerplexityMetric, StateMetric, TaskMetric
from seqedit.support.suggestions import closest
from seqedit.text.plain_text import TextSource

if TYPE_CHECKING:
    import datasets

    from evals.tasks.tasks import LoadedTasks
    from seqedit.editing.rule import Settled
    from seqedit.runs.checked_edit import Checks, OnBroken

    Facts: TypeAlias = (
        str | Path | Request | Record | datasets.Dataset | datasets.DatasetDict
        | Sequence[Request | Record | Mapping[str, Any]]
    )  # fmt: skip
    """A fact file, a dataset or a Hub id, one request or record, or a sequence of them or of their JSON rows."""

_LOG = logging.getLogger(__name__)

Tasks: TypeAlias = Mapping[str, str | Path | TaskRows | None] | Sequence[str]
"""lm-eval tasks by name, each with a local file of its documents (a group with a folder of files) or None for its own
data set; or names alone."""


def facts_of(
    source: Facts, *, zsre: str = "mend", limit: int | None = None, skip_unusable: bool = False
) -> list[Record]:  # fmt: skip
    """Facts as records; what is left out is logged. `facts_read` has the arguments."""
    return facts_read(source, zsre=zsre, limit=limit, skip_unusable=skip_unusable).records


def facts_read(
    source: Facts, *, zsre: str = "mend", limit: int | None = None, skip_unusable: bool = False
) -> FactsRead:  # fmt: skip
    """Facts as records, and what was left out, which is logged too.

    Args:
        source: What was handed in.
        zsre: What zsRE records teach (`seqedit.facts.layouts.ZSRE_CONVENTIONS`).
        limit: Take only the first.
        skip_unusable: Leave out records that cannot be used, instead of refusing them.

    Raises:
        InputError: no fact, or one that cannot be used; names the file or its place.
    """
    if isinstance(source, Request | Record):
        source = [source]
    if isinstance(source, str | Path) or hasattr(source, "column_names"):  # a file, an id, or a dataset in memory
        read = read_facts(source, zsre=zsre, limit=limit, skip_unusable=skip_unusable)  # type: ignore[arg-type]
        return _logged(read)
    if not isinstance(source, Sequence):
        raise InputError(f"facts are a file, a dataset or a sequence of requests, got {type(source).__name__}")
    found, faults, given = [], [], source[:limit]
    for number, item in enumerate(given, 1):
        where = f"fact {number}"
        try:
            found.append((number, _record(item, where, zsre)))
        except RequestError as error:
            faults.append(unusable(number, where, item, error))
    if not given:
        raise InputError("no facts were given")
    if faults and (not found or not skip_unusable):
        raise refusal("the facts", faults, len(given))
    skipped = Skipped("the facts", len(given), tuple(faults)) if faults else None
    return _logged(FactsRead([record for _, record in found], tuple(number for number, _ in found), skipped))


def noted_of(settled: Settled, read: FactsRead) -> dict[str, Any]:
    """What an adapter records of where its settings came from, and of what of its facts' source was left out."""
    return {**settled.provenance(), **({} if read.skipped is None else {"skipped": read.skipped.to_dict()})}


def _logged(read: FactsRead) -> FactsRead:
    if read.skipped is not None:
        _LOG.warning("%s", read.skipped)
    return read


def _record(item: Any, where: str, zsre: str) -> Record:
    if isinstance(item, Record):
        return item
    return Record(item) if isinstance(item, Request) else to_record(item, where, zsre=zsre)


def tasks_of(tasks: Tasks | None, *, limit: int | None = None) -> LoadedTasks | None:
    """Loaded tasks; None where there are none.

    Args:
        tasks: What was handed in.
        limit: Take only the first documents of each.

    Raises:
        InputError: an unknown task, or a file that is not there; names it.
    """
    if not tasks:
        return None
    if isinstance(tasks, str):
        raise InputError(f"tasks are a list of names or a mapping of name to file, got '{tasks}'")
    given = _files_of(tasks)
    check_names(given)
    from evals.tasks.tasks import load_tasks

    return load_tasks(list(given), {n: file for n, file in given.items() if file is not None}, limit=limit)


def _files_of(tasks: Tasks) -> dict[str, str | Path | TaskRows | None]:
    given = tasks if isinstance(tasks, Mapping) else dict.fromkeys(tasks)
    return {name: None if file is None else _rows_of(name, file) for name, file in given.items()}


def _rows_of(name: str, given: str | Path | TaskRows) -> TaskRows:
    rows = TaskRows.of(given)

    def local(file: str | Path) -> str:
        found = resolve_demo_file(str(file))
        if not Path(found).exists():
            raise InputError(f"task '{name}': no such file: {file}")
        return found

    return replace(
        rows, file=local(rows.file), fewshot_file=None if rows.fewshot_file is None else local(rows.fewshot_file)
    )


def checks_of(
    gates: Any = None,
    records: Facts | None = None,
    tasks: Tasks | None = None,
    text: str | Path | None = None,
    *,
    settings: EvalSettings | None = None,
    on_gate: str = "revert",
    zsre: str = "mend",
    skip_unusable: bool = False,
) -> Checks:
    """What is measured after an edit, and the limits that it must keep.

    Args:
        gates: Limits, as in a run; one text, a list or a mapping.
        records: Records with paraphrases and neighbours of new and earlier facts.
        tasks: lm-eval tasks.
        text: Plain text whose perplexity and KL are measured.
        settings: How it is measured; by default everything but generated texts.
        on_gate: What a broken gate does: ``revert`` or ``stop``.
        zsre: What zsRE records teach.
        skip_unusable: Leave out records that cannot be used.

    Raises:
        InputError: names what cannot be used.
    """
    from seqedit.runs.checked_edit import Checks

    chosen = settings or EvalSettings(generation=False)
    return Checks(
        parse_gates([gates] if isinstance(gates, str) else gates),
        None if records is None else facts_of(records, zsre=zsre, skip_unusable=skip_unusable),
        tasks_of(tasks, limit=chosen.task_documents), texts_of(text), chosen, cast("OnBroken", on_gate),
    )  # fmt: skip


def texts_of(text: str | Path | None) -> list[str]:
    """The lines of a plain text that hold something."""
    return [] if text is None else [line for line in TextSource(resolve_demo_file(str(text))) if line]


def metric_of(
    name: str, *, tasks: Tasks | None = None, records: Facts | None = None, text: str | Path | None = None,
    skip_unusable: bool = False,
) -> StateMetric:  # fmt: skip
    """A metric of states by its name.

    Args:
        name: ``TASK.METRIC`` (``cola.mcc``), ``ES``, ``PS``, ``NS``, ``S`` and the other scores of facts, ``ppl`` or
            ``kl``.
        tasks: The task, to measure states that the ledger has no outcomes of.
        records: Records that scores of facts are measured on, the same for every state.
        text: Text that ``ppl`` and ``kl`` are measured on.
        skip_unusable: Leave out records that cannot be used.

    Raises:
        InputError: what the metric is measured on is missing.
    """
    if name in ("ppl", "kl"):
        if text is None:
            raise InputError(f"{name} is measured on a text: give --text FILE, or text= in Python")
        return PerplexityMetric(texts_of(text)) if name == "ppl" else DivergenceMetric(texts_of(text))
    if name in METRICS:
        if records is None:
            raise InputError(
                f"{name} is measured on records, the same for every state: give --records FILE, or records= in Python"
            )
        return FactMetric(name, facts_of(records, skip_unusable=skip_unusable))
    task, dot, metric = name.partition(".")
    if not dot and task not in _files_of(tasks or ()) and (near := closest(name, (*METRICS, "ppl"), cutoff=0.75)):
        raise InputError(
            f"unknown metric '{name}'; did you mean '{near}'? (known: {', '.join(METRICS)}, ppl, and TASK.METRIC)"
        )
    from evals.tasks.groups import on_folders

    given = on_folders(_files_of(tasks or ()))
    return TaskMetric(task, metric or None, tasks_of({task: given[task]}) if task in given else None)
