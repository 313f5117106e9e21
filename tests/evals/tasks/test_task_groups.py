"""A group of tasks on a folder of files: its tasks with rows there, the same from a run file, the shell and Python."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from evals.tasks.examples import TaskRows
from evals.tasks.groups import on_folders
from evals.tasks.loading import TaskFinder
from evals.tasks.tasks import load_tasks
from seqedit.cli.output import files_of_tasks
from seqedit.errors import InputError
from seqedit.library.inputs import metric_of, tasks_of
from seqedit.runs.config import run_config
from seqedit.runs.preparation import task_files
from seqedit.session.metrics import TaskMetric

PAIRS = {
    "cola": ("sentence",), "sst2": ("sentence",), "mrpc": ("sentence1", "sentence2"), "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"), "qnli": ("question", "sentence"), "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
}  # fmt: skip
"""GLUE's tasks by the columns of their texts."""


def rows_of(folder: Path, *names: str, word: str = "film", count: int = 4) -> Path:
    """A folder with rows of some of GLUE's tasks."""
    folder.mkdir(exist_ok=True)
    for name in names:
        rows = [
            {**{c: f"The {word} number {i} is {c}" for c in PAIRS[name]}, "label": i % 2, "idx": i}
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def data(**fields: Any) -> dict[str, Any]:
    return {"model": "demo-llama", "facts": "f.json", "method": "memit", "preset": "demo-llama", "out": "o", **fields}


def test_all_of_glue_is_measured_on_a_folder_with_a_file_for_each(tmp_path: Path) -> None:
    folder = rows_of(tmp_path / "glue", *PAIRS)
    loaded = load_tasks(["glue"], {"glue": folder})
    assert set(loaded.tasks) == set(PAIRS)
    for name in PAIRS:  # as each on its own
        assert loaded.definitions[name] == load_tasks([name], {name: folder / f"{name}.jsonl"}).definitions[name]


def test_a_groups_tasks_without_rows_are_named_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = rows_of(tmp_path / "glue", "sst2", "cola")
    (folder / "README.jsonl").write_text("not of this group")
    with caplog.at_level(logging.WARNING):
        assert list(load_tasks(["glue"], {"glue": folder}).tasks) == ["cola", "sst2"]
    (line,) = [record.getMessage() for record in caplog.records]
    assert all(f"{name}.jsonl" in line for name in PAIRS if name not in ("cola", "sst2"))
    assert "cola.jsonl" not in line


def test_a_folder_that_cannot_stand_for_a_name_is_refused(tmp_path: Path) -> None:
    folder = rows_of(tmp_path / "glue", "cola")
    (tmp_path / "empty").mkdir()
    for given, message in (
        ({"glue": tmp_path / "empty"}, r"none of its tasks.*cola\.jsonl.*wnli\.jsonl"),
        ({"cola": folder}, r"'cola' is one task.*cola\.jsonl"),
        ({"glue": TaskRows(folder, 2, folder / "cola.jsonl")}, "examples are one too.*is a file"),
        ({"glue": TaskRows(folder, 2, tmp_path / "nowhere")}, "nowhere is not there"),
        ({"glue": TaskRows(folder, 2)}, "fewshot_file"),
    ):
        with pytest.raises(InputError, match=message):
            load_tasks(list(given), given)


def test_examples_of_a_group_come_from_a_folder_with_the_same_names(tmp_path: Path) -> None:
    folder = rows_of(tmp_path / "glue", "cola", "sst2")
    shots = rows_of(tmp_path / "shots", "cola", "sst2", word="book", count=6)
    group = load_tasks(["glue"], {"glue": TaskRows(folder, 4, shots)})
    for name in ("cola", "sst2"):
        alone = TaskRows(folder / f"{name}.jsonl", 4, shots / f"{name}.jsonl")
        assert group.definitions[name] == load_tasks([name], {name: alone}).definitions[name]
    (shots / "sst2.jsonl").unlink()
    with pytest.raises(InputError, match=r"sst2\.jsonl: cannot be read"):
        load_tasks(["glue"], {"glue": TaskRows(folder, 4, shots)})


def test_a_task_named_beside_its_group_keeps_its_own_rows(tmp_path: Path) -> None:
    folder, other = rows_of(tmp_path / "glue", "cola", "sst2"), rows_of(tmp_path / "other", "cola", word="book")
    found = load_tasks(["glue", "cola"], {"glue": folder, "cola": other / "cola.jsonl"})
    assert set(found.tasks) == {"cola", "sst2"}
    assert "book" in found.tasks["cola"].eval_docs[0]["sentence"]


def test_run_files_the_shell_and_python_take_a_folder_alike(tmp_path: Path) -> None:
    rows_of(tmp_path / "glue", "cola", "sst2")
    shots = rows_of(tmp_path / "shots", "cola", "sst2", word="book")
    folder = str(tmp_path / "glue")
    wanted = load_tasks(["glue"], {"glue": folder}).definitions
    config = run_config(data(tasks={"glue": "glue"}), tmp_path)
    assert load_tasks(list(config.tasks), task_files(config)).definitions == wanted
    for tasks in ({"glue": folder}, files_of_tasks([f"glue={folder}"])):
        loaded = tasks_of(tasks)
        assert loaded is not None
        assert loaded.definitions == wanted
    given = {"folder": "glue", "num_fewshot": 2, "fewshot_folder": "shots"}
    config = run_config(data(tasks={"glue": given}), tmp_path)
    assert config.tasks == {"glue": TaskRows(folder, 2, str(shots))}
    shown = load_tasks(list(config.tasks), task_files(config)).definitions
    assert shown != wanted
    for rows in ({"glue": TaskRows(folder, 2, shots)}, files_of_tasks([f"glue={folder}"], 2, [f"glue={shots}"])):
        loaded = tasks_of(rows)
        assert loaded is not None
        assert loaded.definitions == shown


def test_a_missing_folder_is_named_by_every_door(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'glue'.*nowhere"):
        tasks_of({"glue": str(tmp_path / "nowhere")})
    with pytest.raises(InputError, match=r"'glue'.*nowhere"):
        tasks_of({"glue": TaskRows(tmp_path / "nowhere")})
    with pytest.raises(InputError, match=r"'glue'.*nowhere"):
        task_files(run_config(data(tasks={"glue": "nowhere"}), tmp_path))


@pytest.mark.parametrize(
    "given",
    [
        {"folder": "glue", "file": "glue"},
        {"folder": "glue", "num_fewshot": 2, "fewshot_file": "shots"},
        {"file": "a.jsonl", "num_fewshot": 2, "fewshot_folder": "shots"},
        {"fewshot_folder": "shots"},
    ],
)
def test_a_run_file_says_folder_of_a_group_and_file_of_a_task(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'glue' needs 'file'.*needs 'folder'.*got"):
        run_config(data(tasks={"glue": given}), tmp_path)


def test_bisect_measures_a_task_of_a_group(tmp_path: Path) -> None:
    folder = str(rows_of(tmp_path / "glue", "cola"))
    metric = metric_of("cola.mcc", tasks={"glue": folder})
    assert isinstance(metric, TaskMetric)
    assert metric.loaded is not None
    assert list(metric.loaded.tasks) == ["cola"]


def test_the_demo_worlds_folder_of_tasks_is_one() -> None:
    loaded = tasks_of({"glue": "demo:tasks"}, limit=2)
    assert loaded is not None
    assert {"cola", "sst2", "mrpc", "rte"} <= set(loaded.tasks)


class Finder(TaskFinder):
    """Knows groups that lm-eval has not."""

    def __init__(self, entries: dict[str, Any]) -> None:
        super().__init__()
        self._glue = entries


def test_groups_of_groups_and_tags_give_their_tasks(tmp_path: Path) -> None:
    from lm_eval.tasks._index import Entry, Kind

    one = {name: Entry(name, Kind.TASK, None) for name in ("b", "a", "c")}
    finder = Finder({
        **one,
        "tag": Entry("tag", Kind.TAG, None, tags={"b", "a"}),
        "all": Entry("all", Kind.GROUP, None, {"group": "all", "task": ["c", "tag", "a"]}),
        "changed": Entry("changed", Kind.GROUP, None, {"group": "changed", "task": [{"task": "a", "num_fewshot": 3}]}),
    })  # fmt: skip
    assert finder.members("all") == ("c", "a", "b")
    for name in ("a", "c"):
        (tmp_path / f"{name}.jsonl").write_text("{}")
    found = on_folders({"all": tmp_path}, finder)
    assert found == {"c": TaskRows(tmp_path / "c.jsonl"), "a": TaskRows(tmp_path / "a.jsonl")}
    with pytest.raises(InputError, match="'changed' changes the settings"):
        finder.members("changed")
