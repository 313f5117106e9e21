"""What a verb is given is read as the Python API reads it: tasks, texts, a method's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.tasks.examples import TaskRows
from ledger import Entry, Ledger
from seqedit.cli.main import run
from seqedit.cli.output import files_of_tasks
from seqedit.editing.settings import MethodChoice
from seqedit.errors import InputError
from seqedit.methods.config import EditConfig
from seqedit.session.entries import settings_for
from seqedit.session.merge import parts_of, solved_by
from tests.ledger.helpers import MODEL, build_adapter


@pytest.mark.parametrize("verb", [["bisect", "cola.mcc"], ["eval"]])
def test_a_missing_file_of_a_task_is_named_before_the_ledger_is_opened(
    verb: list[str], tmp_path: Path, capsys: Any
) -> None:
    assert run([*verb, "--task", "cola=missing.jsonl", "--ledger", str(tmp_path / "none")]) == 2
    assert "task 'cola': no such file: missing.jsonl" in capsys.readouterr().err


def test_bisect_knows_a_text_of_the_demo_by_its_name(tmp_path: Path, capsys: Any) -> None:
    assert run(["bisect", "ppl", "--text", "demo:perplexity.txt", "--ledger", str(tmp_path / "none")]) != 0
    assert str(tmp_path / "none") in capsys.readouterr().err  # the ledger is what is missing, not the text


def test_tasks_are_given_by_name_or_with_a_file() -> None:
    assert files_of_tasks(["cola", "sst=a=b.jsonl"]) == {"cola": None, "sst": "a=b.jsonl"}
    assert files_of_tasks(None) == {}


def test_examples_of_tasks_are_given_by_name_too() -> None:
    assert files_of_tasks(["sst2=a.jsonl", "cola=c.jsonl", "rte"], 4, ["sst2=b=x.jsonl"]) == {
        "sst2": TaskRows("a.jsonl", 4, "b=x.jsonl"), "cola": TaskRows("c.jsonl", 4), "rte": None
    }  # fmt: skip
    assert files_of_tasks(["sst2=a.jsonl"], 0) == {"sst2": TaskRows("a.jsonl", 0)}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((["sst2=a.jsonl"], 4, ["cola=b.jsonl"]), "--fewshot cola=b.jsonl: give NAME=FILE"),
        ((["sst2"], 4, ["sst2=b.jsonl"]), "--fewshot sst2=b.jsonl.*--task NAME=FILE"),
        ((["sst2=a.jsonl"], 4, ["b.jsonl"]), "--fewshot b.jsonl: give NAME=FILE"),
        ((["sst2"], 4, None), "--num-fewshot.*local rows"),
        ((None, 4, None), "--num-fewshot.*local rows"),
        ((["sst2=a.jsonl"], -1, None), "0 or more"),
    ],
)
def test_examples_without_a_task_to_stand_before_are_refused(given: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        files_of_tasks(*given)


@pytest.mark.parametrize("verb", [["bisect", "sst2.acc"], ["eval"]])
def test_verbs_take_examples_of_tasks_and_name_what_is_missing(verb: list[str], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "rows.jsonl").write_text('{"sentence": "It is fine", "label": 1, "idx": 0}')
    given = ["--task", f"sst2={tmp_path / 'rows.jsonl'}", "--num-fewshot", "2", "--ledger", str(tmp_path / "none")]
    assert run([*verb, *given, "--fewshot", "sst2=missing.jsonl"]) == 2
    assert "task 'sst2': no such file: missing.jsonl" in capsys.readouterr().err
    Ledger.create(tmp_path / "none", MODEL).close()
    assert run([*verb, *given]) == 2
    assert "--fewshot" in capsys.readouterr().err


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger.create(tmp_path / "ledger", MODEL) as ledger:
        yield ledger


@pytest.fixture
def entry(ledger: Ledger) -> Entry:
    made = MethodChoice(settings={"layers": [1, 2], "steps": 7}).config("memit")
    return ledger.append(replace(build_adapter(1), method={"name": "memit", **made.to_dict()}), message="facts")


def test_a_choice_comes_on_top_of_an_entrys_own_settings_while_the_method_stays(entry: Entry) -> None:
    name, config = settings_for(entry, MethodChoice(assignments=("clamp_norm_factor=0.5",), layers="2"))
    assert name == "memit"
    assert config.layers == (2,)
    assert (config.to_dict()["steps"], config.to_dict()["clamp_norm_factor"]) == (7, 0.5)
    assert settings_for(entry, MethodChoice("memit", settings={"steps": 3}))[1].to_dict()["steps"] == 3


def test_another_method_takes_an_entrys_layers_and_nothing_else(entry: Entry) -> None:
    name, config = settings_for(entry, MethodChoice("emmet"))
    assert (name, config.layers) == ("emmet", (1, 2))
    assert config.to_dict()["steps"] == MethodChoice(layers="1").config("emmet").to_dict()["steps"]
    assert settings_for(entry, MethodChoice("emmet", layers="0"))[1].layers == (0,)


def test_settings_of_a_merge_are_for_solving_alone(ledger: Ledger, entry: Entry) -> None:
    other = ledger.append(replace(build_adapter(2), method=entry.method), message="more facts")
    found = parts_of(ledger, [entry.id, other.id])
    assert solved_by(found, "sum", MethodChoice()) == (None, None)
    method, config = solved_by(found, "solve", MethodChoice(assignments=("steps=9",)))
    assert method == "memit"
    assert isinstance(config, EditConfig)
    assert (config.layers, config.to_dict()["steps"]) == ((1, 2), 9)
    with pytest.raises(InputError, match="for merging by 'solve'; 'ties' works on the stored deltas"):
        solved_by(found, "ties", MethodChoice(preset="gpt2-xl"))
    with pytest.raises(InputError, match="merged by one of sum, solve, ties, dare, got 'mean'"):
        solved_by(found, "mean", MethodChoice())
