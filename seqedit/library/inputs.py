"""What users hand in, as the things that the session's functions take: facts, tasks, texts, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from evals.scores.scores import METRICS
from evals.tasks.examples import TaskRows
from seqedit.demo.location import resolve_demo_file
from seqedit.errors import InputError
from seqedit.facts.layouts import to_record
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record, Request
from seqedit.session.metrics import FactMetric, PerplexityMetric, StateMetric, TaskMetric
from seqedit.text.plain_text import TextSource

if TYPE_CHECKING:
    import datasets

    from evals.tasks.tasks import LoadedTasks

    Facts: TypeAlias = (
        str | Path | Request | Record | datasets.Dataset | datasets.DatasetDict
        | Sequence[Request | Record | Mapping[str, Any]]
    )  # fmt: skip
    """A fact file, a dataset or a Hub id, one request or record, or a sequence of them or of their JSON rows."""

Tasks: TypeAlias = Mapping[str, str | Path | TaskRows | None] | Sequence[str]
"""lm-eval tasks by name, each with a local file of its documents (a group with a folder of files) or None for its own
data set; or names alone."""


def facts_of(source: Facts, *, zsre: str = "mend", limit: int | None = None) -> list[Record]:
    """Facts as records.

    Args:
        source: What was handed in.
        zsre: What zsRE records teach (`seqedit.facts.layouts.ZSRE_CONVENTIONS`).
        limit: Take only the first.

    Raises:
        InputError: no fact, or one that cannot be used; names the file or its place.
    """
    if isinstance(source, Request | Record):
        source = [source]
    if isinstance(source, str | Path) or hasattr(source, "column_names"):  # a file, an id, or a dataset in memory
        return load_records(source, zsre=zsre, limit=limit)  # type: ignore[arg-type]
    if not isinstance(source, Sequence):
        raise InputError(f"facts are a file, a dataset or a sequence of requests, got {type(source).__name__}")
    found = [_record(item, f"fact {number}", zsre) for number, item in enumerate(source[:limit], 1)]
    if not found:
        raise InputError("no facts were given")
    return found


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
    from evals.tasks.tasks import load_tasks

    given = _files_of(tasks)
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


def texts_of(text: str | Path | None) -> list[str]:
    """The lines of a plain text that hold something."""
    return [] if text is None else [line for line in TextSource(resolve_demo_file(str(text))) if line]


def metric_of(
    name: str, *, tasks: Tasks | None = None, records: Facts | None = None, text: str | Path | None = None
) -> StateMetric:
    """A metric of states by its name.

    Args:
        name: ``TASK.METRIC`` (``cola.mcc``), ``ES``, ``PS``, ``NS``, ``S`` and the other scores of facts, or ``ppl``.
        tasks: The task, to measure states that the ledger has no outcomes of.
        records: Records that scores of facts are measured on, the same for every state.
        text: Text that ``ppl`` is measured on.

    Raises:
        InputError: what the metric is measured on is missing.
    """
    if name == "ppl":
        if text is None:
            raise InputError("ppl is measured on a text: give --text FILE, or text= in Python")
        return PerplexityMetric(texts_of(text))
    if name in METRICS:
        if records is None:
            raise InputError(
                f"{name} is measured on records, the same for every state: give --records FILE, or records= in Python"
            )
        return FactMetric(name, facts_of(records))
    task, _, metric = name.partition(".")
    from evals.tasks.groups import on_folders

    given = on_folders(_files_of(tasks or ()))
    return TaskMetric(task, metric or None, tasks_of({task: given[task]}) if task in given else None)
