"""Names of lm-eval's tasks, and the files of those that have local rows, checked without importing lm-eval.

Its own index parses some 10,000 files and imports torch first. To refuse a slip it is enough that no file of its tasks
holds the name: what is let through is looked up when the task is loaded (`evals.tasks.loading`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from evals.tasks.examples import TaskRows
from evals.tasks.library import shipped_tasks
from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean

_WORD = re.compile(rb"[^\s\"'#,:\[\]{}]+")
_NAMED = re.compile(rb"^\s*-?\s*(?:task|group|tag)\s*:[ \t]*[\"']?([^\s\"'#\[\]{}]+)", re.MULTILINE)


def check_names(names: Iterable[str]) -> None:
    """Refuse a name that no task, group or tag of lm-eval has, nor a task file or a task of this package.

    Where lm-eval is not installed nothing is known of its tasks, and nothing is refused.

    Raises:
        InputError: names the task, and what was probably meant.
    """
    folder = task_folder()
    for name in names:
        if name.endswith((".yaml", ".yml")):
            if not Path(name).is_file():
                raise InputError(f"task file {name} does not exist")
        elif folder is not None and name not in shipped_tasks() and not _obvious(folder, name):
            words, known = _index(folder)
            if name not in words:
                raise unknown_task(name, known)


def check_rows(rows: Mapping[str, str | Path | TaskRows | None]) -> None:
    """Refuse files and folders of tasks that are not there; None stands for a task's own data set.

    Raises:
        InputError: names the task and the file.
    """
    for name, given in rows.items():
        if given is None:
            continue
        found = TaskRows.of(given)
        for file in (found.file, found.fewshot_file):
            if file is not None and not Path(file).exists():
                raise InputError(f"task '{name}': no such file: {file}")


def unknown_task(name: str, known: Iterable[str]) -> InputError:
    """The error of a task that there is not."""
    return InputError(f"unknown lm-eval task {name!r}; `lm-eval ls tasks` lists them{did_you_mean(name, known)}")


def task_folder() -> Path | None:
    """The folder of lm-eval's task files; None where it is not installed. Nothing of it is imported."""
    found = find_spec("lm_eval")
    places = [] if found is None else list(found.submodule_search_locations or ())
    folder = Path(places[0]) / "tasks" if places else None
    return folder if folder is not None and folder.is_dir() else None


def _obvious(folder: Path, name: str) -> bool:
    """Whether a task lies where its name says, as most do: found without reading a file."""
    if not re.fullmatch(r"[\w.+-]+", name):
        return False
    return (folder / "glue" / name / "default.yaml").is_file() or any(
        (folder / part).exists() for part in (f"{name}/{name}.yaml", f"{name}/default.yaml", f"{name}/_{name}.yaml")
    )


def _index(folder: Path) -> tuple[set[str], list[str]]:
    """All words of all task files, and those of them that name a task, group or tag."""
    words: set[bytes] = set()
    named: set[bytes] = set()
    for path in folder.rglob("*.y*ml"):
        text = path.read_bytes()
        words.update(_WORD.findall(text))
        named.update(_NAMED.findall(text))
    names = sorted(word.decode("utf-8", "replace") for word in named)
    return {word.decode("utf-8", "replace") for word in words}, names
