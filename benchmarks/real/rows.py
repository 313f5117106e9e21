"""The user's own facts, rows and text, cut to what a run on two cores can afford."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from evals.tasks.examples import TaskRows
from seqedit.demo.location import demo_folder
from seqedit.errors import InputError

EXAMPLES = 32
"""The first rows of a task's file: few-shot examples are taken from these, and never scored."""


@dataclass(frozen=True)
class Data:
    """What is edited and measured.

    Attributes:
        facts: Fact file.
        text: Plain text.
        tasks: Rows of tasks, each file called as its task.
        real: Whether the facts are the user's and not the demo world's.
    """

    facts: Path
    text: Path
    tasks: Sequence[Path]
    real: bool

    def __str__(self) -> str:
        """Where the facts are from, for people."""
        if self.real:
            return f"facts of {self.facts.name}, text of {self.text.name}, tasks: {_names(self.tasks)}"
        return (
            "no facts given: those of the demo world, which no real model has heard of, are edited into the real "
            "weights; for real ones give a folder with counterfact*.json, wikitext*.txt and glue/*.jsonl "
            "(make real DATA=FOLDER)"
        )


def find_data(
    folder: Path | None, *, facts: Path | None = None, text: Path | None = None, tasks: Sequence[Path] | None = None
) -> Data:
    """Facts, text and rows as given, or from a folder; the demo world's where there are no facts at all.

    Raises:
        InputError: there are facts and no text, or a named file is missing.
    """
    if folder is not None and folder.is_dir():
        facts = facts or next(iter(sorted(folder.glob("counterfact*.json"))), None)
        text = text or next(iter(sorted(folder.glob("wikitext*.txt"))), None)
        tasks = sorted((folder / "glue").glob("*.jsonl")) if tasks is None else tasks
    if facts is None:
        world = demo_folder()
        rows = sorted((world / "tasks").glob("*.jsonl")) if tasks is None else tasks
        found = Data(world / "counterfact.json", world / "corpus.txt", tuple(rows), False)
        return found if text is None else replace(found, text=text)
    if text is None:
        raise InputError(f"{facts} is given and no plain text; give one with --text, for second moments and perplexity")
    for file in (facts, text, *(tasks or ())):
        if not file.is_file():
            raise InputError(f"no such file: {file}")
    return Data(facts, text, tuple(tasks or ()), True)


def _names(files: Sequence[Path]) -> str:
    return ", ".join(file.stem for file in files) or "none"


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
        found[file.stem] = TaskRows(
            out / f"{file.stem}.documents.jsonl", shots, out / f"{file.stem}.examples.jsonl", same_examples=True
        )
    return found
