"""A group of tasks on a folder of files: each of its tasks whose rows lie there as ``NAME.jsonl``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from evals.tasks.examples import TaskRows
from evals.tasks.loading import TaskFinder
from seqedit.errors import InputError

_LOG = logging.getLogger(__name__)


def on_folders(
    given: Mapping[str, str | Path | TaskRows | None], finder: TaskFinder | None = None
) -> dict[str, str | Path | TaskRows | None]:
    """Tasks with their files, every group that was given a folder replaced by its tasks with rows there.

    Args:
        given: Task or group -> a file, a folder of files (then `TaskRows.fewshot_file` is a folder too, of examples),
            or None. A task that is named beside its group keeps what it was given itself.
        finder: Knows the groups; its index is used again.

    Raises:
        InputError: the folder holds rows of none of the group's tasks, the name is that of one task or of none, or
            examples of a group are given as one file.
    """
    found: dict[str, str | Path | TaskRows | None] = {}
    for name, file in given.items():
        if file is None or not Path(TaskRows.of(file).file).is_dir():
            found[name] = file
            continue
        for member, rows in _rows_of(name, TaskRows.of(file), finder or TaskFinder()).items():
            if member not in given:
                found.setdefault(member, rows)
    return found


def _rows_of(group: str, rows: TaskRows, finder: TaskFinder) -> dict[str, TaskRows]:
    folder, examples = Path(rows.file), None if rows.fewshot_file is None else Path(rows.fewshot_file)
    members = finder.members(group)
    if members == (group,):
        raise InputError(f"task {group!r} is one task, and {folder} is a folder; name its file, {folder / group}.jsonl")
    if examples is not None and not examples.is_dir():
        raise InputError(
            f"task group {group!r}: its rows are a folder, so its examples are one too, with the same names; "
            f"{examples} is {'a file' if examples.exists() else 'not there'}"
        )
    there = [name for name in members if (folder / f"{name}.jsonl").is_file()]
    missing = ", ".join(f"{name}.jsonl" for name in members if name not in there)
    if not there:
        raise InputError(f"task group {group!r}: {folder} holds rows of none of its tasks; looked for {missing}")
    if missing:
        _LOG.warning("task group %r: measured on %s; %s has no %s", group, ", ".join(there), folder, missing)
    return {
        name: TaskRows(
            folder / f"{name}.jsonl",
            rows.num_fewshot,
            None if examples is None else examples / f"{name}.jsonl",
            rows.same_examples,
        )
        for name in there
    }
