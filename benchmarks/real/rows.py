"""The user's own facts, rows and text, cut to what a run on two cores can afford."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from evals.tasks.examples import TaskRows
from seqedit.errors import InputError

EXAMPLES = 32
"""The first rows of a task's file: few-shot examples are drawn from these, and never scored."""


def non_empty_lines(path: Path, count: int) -> list[str]:
    """The first lines of a text that hold something.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return list(islice((line.rstrip("\n") for line in file if line.strip()), count))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def few_shot(files: Sequence[Path], out: Path, *, shots: int, documents: int) -> dict[str, TaskRows]:
    """Tasks with examples before every document: a task is called as its file is.

    Args:
        files: JSON lines, one row each; the name without its ending is lm-eval's name of the task.
        out: Folder where the two parts of every file are written.
        shots: Examples before every document.
        documents: At most so many rows are scored.

    Raises:
        InputError: a file cannot be read or has too few rows.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for file in files:
        rows = non_empty_lines(file, EXAMPLES + documents)
        if len(rows) <= EXAMPLES:
            raise InputError(f"{file} has {len(rows)} rows; {EXAMPLES} are for examples, so more are needed")
        parts = {"examples": rows[:EXAMPLES], "documents": rows[EXAMPLES:]}
        for part, lines in parts.items():
            for number, line in enumerate(lines, 1):
                try:
                    json.loads(line)
                except ValueError as error:
                    raise InputError(f"{file}, row {number} of its {part}: not JSON ({error})") from error
            (out / f"{file.stem}.{part}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        found[file.stem] = TaskRows(out / f"{file.stem}.documents.jsonl", shots, out / f"{file.stem}.examples.jsonl")
    return found
