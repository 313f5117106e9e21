"""Examples before documents of local rows: from a file of their own, the same at every step, never the tested one."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.tasks.examples import TaskRows
from evals.tasks.tasks import evaluate_tasks, load_tasks
from seqedit.errors import InputError
from seqedit.runs.config import run_config

ROWS = [{"sentence": f"The film number {i} is fine", "label": i % 2, "idx": i} for i in range(6)]
SHOTS = [{"sentence": f"The book number {i} is dull", "label": i % 2, "idx": i} for i in range(9)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def rows(tmp_path: Path) -> TaskRows:
    return TaskRows(write(tmp_path / "rows.jsonl", ROWS), 3, write(tmp_path / "shots.jsonl", SHOTS))


def asked(model: Any, tokenizer: Any, tasks: Any, name: str) -> list[str]:
    evaluate_tasks(model, tokenizer, tasks)
    return [instance.arguments[0] for instance in tasks.tasks[name].instances]


def test_examples_come_from_their_own_file_and_are_the_same_at_every_step(
    rows: TaskRows, model: Any, tokenizer: Any
) -> None:
    first, again = (load_tasks(["sst2"], {"sst2": rows}) for _ in range(2))
    prompts = asked(model, tokenizer, first, "sst2")
    assert prompts == asked(model, tokenizer, first, "sst2") == asked(model, tokenizer, again, "sst2")
    for place, prompt in enumerate(prompts):
        *examples, document = prompt.split("\n\n")
        assert len(set(examples)) == 3
        assert document.startswith(ROWS[place // 2]["sentence"])
        for example in examples:
            number = int(example.split("number ")[1].split()[0])
            assert example.startswith(f"The book number {number} is dull")
            assert example.endswith(("negative", "positive")[number % 2])
    assert len({prompt.rpartition("\n\n")[0] for prompt in prompts}) > 1


def test_a_tasks_own_number_of_examples_is_drawn_from_the_file(
    rows: TaskRows, tmp_path: Path, model: Any, tokenizer: Any
) -> None:
    import lm_eval.tasks

    glue = Path(lm_eval.tasks.__file__).parent / "glue" / "sst2" / "default.yaml"
    (tmp_path / "five.yaml").write_text(f"include: {glue}\ntask: five\nnum_fewshot: 5\n")
    name = str(tmp_path / "five.yaml")
    tasks = load_tasks([name], {name: TaskRows(rows.file, None, rows.fewshot_file)})
    assert all(p.count("\n\n") == 5 for p in asked(model, tokenizer, tasks, name))
    none = load_tasks([name], {name: TaskRows(rows.file, 0)})
    assert all("\n\n" not in p for p in asked(model, tokenizer, none, name))
    with pytest.raises(InputError, match=r"5 examples of its training split.*fewshot_file"):
        load_tasks([name], {name: rows.file})


def test_a_document_under_test_is_never_its_own_example(
    rows: TaskRows, tmp_path: Path, model: Any, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    again = [{**row, "idx": 100 + row["idx"]} for row in ROWS]  # only their numbers differ
    mixed = TaskRows(rows.file, 4, write(tmp_path / "mixed.jsonl", again + SHOTS[:4]))
    with caplog.at_level(logging.WARNING):
        tasks = load_tasks(["sst2"], {"sst2": mixed})
    assert "6 of 10 examples" in caplog.text
    assert all(p.count("The film") == 1 for p in asked(model, tokenizer, tasks, "sst2"))
    with pytest.raises(InputError, match=r"mixed\.jsonl.*needs 5.*4 of its 10 rows"):
        load_tasks(["sst2"], {"sst2": TaskRows(rows.file, 5, mixed.fewshot_file)})
    with pytest.raises(InputError, match="0 of its 6 rows"):
        load_tasks(["sst2"], {"sst2": TaskRows(rows.file, 1, rows.file)})


def test_what_is_wrong_with_examples_is_named(rows: TaskRows, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.jsonl", [*SHOTS[:5], {"sentence": "No label", "idx": 9}])
    for given, message in (
        (TaskRows(rows.file, 2), "fewshot_file"),
        (TaskRows(rows.file, None, rows.fewshot_file), "needs num_fewshot"),
        (TaskRows(rows.file, 0, rows.fewshot_file), "needs num_fewshot"),
        (TaskRows(rows.file, 2, tmp_path / "none.jsonl"), r"none\.jsonl: cannot be read"),
        (TaskRows(rows.file, 2, bad), r"bad\.jsonl: a column that task 'sst2' needs.*label|bad\.jsonl.*right choice"),
    ):
        with pytest.raises(InputError, match=message):
            load_tasks(["sst2"], {"sst2": given})
    with pytest.raises(InputError, match="0 or more"):
        TaskRows(rows.file, -1)
    facts = write(tmp_path / "facts.jsonl", [{"subject": "Bado", "prompt": "{} is", "target_new": "golf"}])
    with pytest.raises(InputError, match="no examples in the prompt"):
        load_tasks(["counterfact_efficacy"], {"counterfact_efficacy": TaskRows(facts, 2, facts)})


def test_examples_are_part_of_a_tasks_definition(rows: TaskRows, tmp_path: Path) -> None:
    others = [
        rows,
        TaskRows(rows.file, 2, rows.fewshot_file),
        TaskRows(rows.file, 3, write(tmp_path / "other.jsonl", SHOTS[1:])),
        TaskRows(rows.file),
    ]
    assert len({load_tasks(["sst2"], {"sst2": given}).definitions["sst2"] for given in others}) == 4


def test_run_files_name_examples(tmp_path: Path, rows: TaskRows) -> None:
    data = {"model": "demo-llama", "facts": "facts.json", "method": "memit", "preset": "demo-llama", "out": "out"}
    (tmp_path / "facts.json").write_text("[]")
    given = {"file": "rows.jsonl", "num_fewshot": 3, "fewshot_file": "shots.jsonl"}
    assert run_config({**data, "tasks": {"sst2": given}}, tmp_path).tasks == {
        "sst2": TaskRows(str(rows.file), 3, str(rows.fewshot_file))
    }
    same = run_config({**data, "tasks": {"sst2": {**given, "same_examples": True}}}, tmp_path)
    assert same.tasks == {"sst2": TaskRows(str(rows.file), 3, str(rows.fewshot_file), same_examples=True)}
    for wrong, message in (
        ({"num_fewshot": 3}, "needs 'file'"),
        ({**given, "shots": 1}, "needs 'file'"),
        ({**given, "num_fewshot": "three"}, "whole number"),
        ({**given, "same_examples": "yes"}, "same_examples"),
    ):
        with pytest.raises(InputError, match=message):
            run_config({**data, "tasks": {"sst2": wrong}}, tmp_path)


def test_the_same_examples_are_the_first_of_the_file_before_every_document(
    rows: TaskRows, model: Any, tokenizer: Any
) -> None:
    same = load_tasks(["sst2"], {"sst2": replace(rows, same_examples=True)})
    before = {prompt.rpartition("\n\n")[0] for prompt in asked(model, tokenizer, same, "sst2")}
    assert len(before) == 1
    numbers = [int(example.split("number ")[1].split()[0]) for example in next(iter(before)).split("\n\n")]
    assert [f"The book number {number} is dull" in SHOTS[i]["sentence"] for i, number in enumerate(numbers)] == [
        True
    ] * 3
    assert same.definitions["sst2"] != load_tasks(["sst2"], {"sst2": rows}).definitions["sst2"]


def test_the_same_examples_need_a_file_of_examples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"same_examples: .* has no file of examples"):
        TaskRows(tmp_path / "sst2.jsonl", same_examples=True)
