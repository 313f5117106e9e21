"""A task file that cannot be used ends in one error that names the task, or its file, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.tasks.tasks import evaluate_tasks, load_tasks
from seqedit.errors import EnvironmentFailure, InputError, SeqeditError

GOOD: dict[str, Any] = {
    "task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}} It is",
    "doc_to_target": "label", "doc_to_choice": ["right", "wrong"],
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}  # fmt: skip
SAID = {
    "output_type": "generate_until", "doc_to_target": "{{question}}", "doc_to_choice": None,
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 2, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}  # fmt: skip
FUNCTIONS = """
def raises(*_, **__):
    raise RuntimeError("what the function says")

def same(docs):
    return docs

def text(*_, **__):
    return {"acc": object()}
"""
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a key that is misspelt": ({"doc_to_txt": "{{question}}"}, "unknown key 'doc_to_txt'; did you mean 'doc_to_text'?"),
    "a column that is missing": ({"doc_to_text": "{{answer}} It is"}, "answer"),
    "a target that is missing": ({"doc_to_target": "labels"}, "labels"),
    "a template that is none": ({"doc_to_text": "{{question"}, "Template"),
    "a template that calls nothing": ({"doc_to_text": "{{question.what()}}"}, "what"),
    "a metric that is unknown": ({"metric_list": [{"metric": "accuracyy"}]}, "accuracyy"),
    "a metric without a name": ({"metric_list": [{"aggregation": "mean"}]}, "metric"),
    "metrics that are no list": ({"metric_list": "acc"}, "own"),
    "an aggregation that is unknown": (
        {"metric_list": [{"metric": "acc", "aggregation": "meen", "higher_is_better": True}]}, "meen"),
    "a filter that is unknown": (
        {**SAID, "filter_list": [{"name": "a", "filter": [{"function": "regexx"}]}]}, "regexx"),
    "a filter with an argument that it lacks": (
        {**SAID, "filter_list": [{"name": "a", "filter": [{"function": "regex", "patern": "x"}]}]}, "patern"),
    "a pattern that is none": (
        {**SAID, "filter_list": [{"name": "a", "filter": [{"function": "regex", "regex_pattern": "("}]}]}, "own"),
    "an output type that is none": ({"output_type": "multiple_choise"}, "multiple_choise"),
    "an output type that is left out and needs too long answers": ({"output_type": None}, "own"),
    "generation settings that are none": ({**SAID, "generation_kwargs": {"until": 3, "max_gen_toks": 2}}, "own"),
    "a split that is not there": ({"test_split": "tests"}, "tests"),
    "no split": ({"test_split": None}, "own"),
    "a data set that is not there": ({"dataset_path": "/nowhere/at-all"}, "own"),
    "a data set that is a number": ({"dataset_path": 3}, "own"),
    "rows that are not there": ({"dataset_kwargs": {"data_files": {"test": "nowhere.jsonl"}}}, "nowhere.jsonl"),
    "choices that are a number": ({"doc_to_choice": 3}, "own"),
    "choices that are empty": ({"doc_to_choice": []}, "own"),
    "examples that are not there": ({"num_fewshot": 2, "fewshot_split": "train"}, "own"),
    "a sampler that is unknown": (
        {"num_fewshot": 1, "fewshot_split": "test", "fewshot_config": {"sampler": "firstn"}}, "firstn"),
}  # fmt: skip
TEXTS: dict[str, tuple[str, str]] = {
    "an empty file": ("", "mapping"),
    "a list": ("- task: own\n", "mapping"),
    "a number": ("3\n", "mapping"),
    "no YAML": ("task: [own\n", "malformed"),
    "a tab": ("task:\n\t- own\n", "malformed"),
    "a mapping as a key": ("{a: b}: c\n", "malformed"),
    "Python": ("task: !!python/object/apply:os.getcwd []\n", "malformed"),
    "a file that includes itself": ("include: own.yaml\ntask: own\n", "own.yaml"),
    "files that include each other": ("include: other.yaml\ntask: own\n", "own.yaml"),
    "a file that includes what is not there": ("include: nowhere.yaml\ntask: own\n", "nowhere.yaml"),
    "a file that includes no mapping": ("include: list.yaml\ntask: own\n", "own.yaml"),
    "a mapping that contains itself": ("&a\ntask: own\nmetadata: *a\n", "own.yaml"),
    "nothing but a name": ("task: own\n", "own"),
    "another thing": ("hello: world\n", "own.yaml"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of a task, functions, and task files to include, in the current folder."""
    rows = [{"question": f"{number} is a sport.", "label": number % 2} for number in range(3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "other.yaml").write_text("include: own.yaml\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def result(model: tuple[Any, Any], text: str, folder: Path) -> Any:
    (folder / "own.yaml").write_text(text)
    tasks = load_tasks(["own.yaml"])
    return evaluate_tasks(*model, tasks)


def error_of(model: tuple[Any, Any], text: str, folder: Path) -> str:
    with pytest.raises(SeqeditError) as caught:
        result(model, text, folder)
    assert isinstance(caught.value, InputError | EnvironmentFailure)
    said = str(caught.value)
    assert "\n" not in said
    assert "own" in said
    return said


def test_the_task_file_that_the_others_are_made_of_is_read(folder: Path, reference_model: tuple[Any, Any]) -> None:
    assert "acc" in result(reference_model, json.dumps(GOOD), folder)["own"].metrics


@pytest.mark.parametrize(("changed", "named"), BROKEN.values(), ids=BROKEN)
def test_a_broken_task_is_one_error_that_names_the_task_and_the_fault(
    changed: dict[str, Any], named: str, folder: Path, reference_model: tuple[Any, Any]
) -> None:
    config = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    assert named in error_of(reference_model, json.dumps(config), folder)


@pytest.mark.parametrize(("text", "named"), TEXTS.values(), ids=TEXTS)
def test_a_file_that_is_no_task_is_one_error_that_names_the_file(
    text: str, named: str, folder: Path, reference_model: tuple[Any, Any]
) -> None:
    assert named in error_of(reference_model, text, folder)


@pytest.mark.parametrize(
    ("field", "function", "named"),
    [
        ("process_docs", "functions.nothing", "nothing"),
        ("process_docs", "absent.same", "absent"),
        ("process_docs", "functions", "functions"),
        ("process_docs", "functions.raises", "what the function says"),
        ("process_results", "functions.raises", "what the function says"),
        ("doc_to_text", "functions.raises", "what the function says"),
        ("process_results", "functions.text", "own"),
    ],
)
def test_a_function_that_is_missing_or_fails_is_one_error_that_names_it(
    field: str, function: str, named: str, folder: Path, reference_model: tuple[Any, Any]
) -> None:
    rest = "".join(f"{name}: {json.dumps(value)}\n" for name, value in GOOD.items() if name != field)
    assert named in error_of(reference_model, f"{rest}{field}: !function {function}\n", folder)


def test_what_a_model_raises_is_not_blamed_on_the_task(
    folder: Path, reference_model: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = reference_model
    hook: Any = model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("of the model")))
    try:
        with pytest.raises(RuntimeError, match="of the model"):
            result(reference_model, json.dumps(GOOD), folder)
    finally:
        hook.remove()
