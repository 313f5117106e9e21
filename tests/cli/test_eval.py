"""`seqedit eval`: the run's own numbers, on any state, and exit code 1 where a gate is not kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from tests.runs.test_run import change, folder  # noqa: F401


@pytest.fixture
def made(folder: Path, capsys: Any) -> Path:  # noqa: F811
    assert run(["run", str(change(folder, steps=3))]) == 0
    capsys.readouterr()
    return folder


def arguments(place: Path, *more: str) -> list[str]:
    given = ["--task", f"cola={place / 'cola.jsonl'}", "--records", str(place / "facts.json")]
    return ["eval", "--ledger", str(place / "out" / "ledger"), *given, *more]


def test_a_state_scores_as_the_run_scored_it(made: Path, capsys: Any) -> None:
    summary = json.loads((made / "out" / "summary.json").read_text())
    for rev, step in (("HEAD", 2), ("HEAD~1", 1)):
        assert run(arguments(made, rev, "--json")) == 0
        found = json.loads(capsys.readouterr().out)
        wanted = summary["steps"][step]
        assert found["entry"] == wanted["entry"]
        for name in ("ES", "PS", "NS", "S"):
            assert found["scores"][name] == pytest.approx(wanted[name])
            assert found["scores"]["earlier"][name] == pytest.approx(wanted["earlier"][name])
        assert found["scores"]["tasks"]["cola"]["change"] == wanted["tasks"]["cola"]["change"]


def test_a_group_on_a_folder_is_its_tasks_with_a_file_there(made: Path, capsys: Any, caplog: Any) -> None:
    assert run(arguments(made, "--json")) == 0
    wanted = json.loads(capsys.readouterr().out)
    given = ["eval", "--ledger", str(made / "out" / "ledger"), "--records", str(made / "facts.json"), "--json"]
    assert run([*given, "--task", f"glue={made}", "--gate", "cola.f1_weighted: max_drop 1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["tasks"] == wanted["scores"]["tasks"]
    assert found["baseline"]["cola"] == wanted["baseline"]["cola"]
    assert "sst2.jsonl" in caplog.text


def test_a_gate_that_is_not_kept_gives_exit_code_1(made: Path, capsys: Any) -> None:
    assert run(arguments(made, "--gate", "earlier.ES: min 1", "--gate", "cola.mcc: max_drop 2")) == 0
    assert "kept: earlier.ES: min 1" in capsys.readouterr().out
    assert run(arguments(made, "--gate", "ES: max 1", "--gate", "cola.mcc: max_drop 2 at 90 %")) == 1
    out = capsys.readouterr().out
    assert "tripped: ES: max 1" in out
    assert "kept: cola.mcc" in out


def test_perplexity_can_be_a_gate(made: Path, capsys: Any) -> None:
    (made / "plain.txt").write_text("It rained in the morning.\n")
    gate = ["--text", str(made / "plain.txt"), "--gate", "drift.perplexity: max 1"]
    assert run(arguments(made, *gate)) == 1
    assert {"perplexity", "KL"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["HEAD~3"], "no edits"),
        (["--gate", "ES rises"], "ES rises"),
        (["--gate", "sst2.acc: min 0.1"], "sst2"),
        (["--task", "mrpc=nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_evaluated_is_named(more: list[str], named: str, made: Path, capsys: Any) -> None:
    assert run(arguments(made, *more)) == 2
    assert named in capsys.readouterr().err


def test_scores_are_kept_beside_the_newest_entry_where_that_is_asked(made: Path, capsys: Any) -> None:
    ledger = ["--ledger", str(made / "out" / "ledger")]
    assert run(["revert", "HEAD", *ledger]) == 0
    assert run(arguments(made)) == 0
    capsys.readouterr()
    assert run(["show", *ledger, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == {}
    assert run(arguments(made, "HEAD~1", "--keep")) == 2
    assert "--keep writes scores beside the newest entry of branch 'main'" in capsys.readouterr().err
    assert run(arguments(made, "--keep", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert run(["show", *ledger, "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)["scores"]["counterfact"]["earlier"]
    assert kept["ES"] == pytest.approx(found["scores"]["earlier"]["ES"])
    assert run(["status", *ledger, "--json"]) == 0
    assert "unscored" not in {one["kind"] for one in json.loads(capsys.readouterr().out)["pending"]}
