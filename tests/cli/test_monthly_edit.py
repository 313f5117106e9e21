"""`seqedit edit FILE -m MONTH`: what was learnt, the ledger's options, and gates as a run has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from seqedit.cli.main import run
from tests.conftest import REFERENCE
from tests.runs.test_run import COLA

MODEL = str(REFERENCE / "model")
CASE = REFERENCE / "multi_layer_batch8" / "case.json"


@pytest.fixture
def month(tmp_path: Path, monkeypatch: Any, capsys: Any) -> Path:
    """A ledger with its options set, and two files of four facts."""
    monkeypatch.delenv("SEQEDIT_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    records = json.loads(CASE.read_text())["records"]
    for number in (0, 1):
        rows = records[4 * number : 4 * number + 4]
        (tmp_path / f"2032-0{number + 3}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "cola.jsonl").write_text("\n".join(map(json.dumps, COLA)))
    (tmp_path / "templates.json").write_text(json.dumps([["{}"], ["It rained. {}"]]))
    (tmp_path / "own.yaml").write_text(
        "common: {layers: [1, 2], steps: 20, second_moment_weight: 50, clamp_norm_factor: 1.5, weight_decay: 0.001}\n"
    )
    assert run(["init", "--model", MODEL]) == 0
    options = {
        "method": "emmet", "preset": "own.yaml", "author": "ann", "context-templates": "templates.json",
        "second-moments": str(REFERENCE / "second_moments.safetensors"),
    }  # fmt: skip
    for name, value in options.items():
        assert run(["config", name, value]) == 0
    capsys.readouterr()
    return tmp_path


def test_the_monthly_command_says_what_was_learnt_and_records_it(month: Path, capsys: Any) -> None:
    assert run(["edit", "2032-03.jsonl", "-m", "March", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert "from the ledger's configuration: " in captured.err
    assert found["defaults"]["method"] == "emmet"
    assert found["learnt"]["requests"] == 4
    with Ledger.open(month / "ledger") as opened:
        entry = opened.entry("HEAD")
        assert (entry.message, entry.author, entry.method["name"], entry.method["layers"]) == (
            "March", "ann", "emmet", [1, 2],
        )  # fmt: skip
        assert opened.scores(entry.id)["learnt"] == found["learnt"]
    # The same question to the model by another way: EM of the facts at their own prompts.
    assert run(["export", "--format", "peft", "--out", "adapter"]) == 0
    capsys.readouterr()
    assert run(["score", "--model", MODEL, "--records", "2032-03.jsonl", "--adapter", "adapter", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    first = [record["rewrite"][0]["argmax_correct"] for record in scored["records"]]
    assert [fact["position"] for fact in found["learnt"]["missed"]] == [i for i, yes in enumerate(first) if not yes]
    assert found["learnt"]["learnt"] == sum(first)
    assert run(["show"]) == 0
    assert f"{sum(first)} of 4 learnt" in capsys.readouterr().out


def test_a_fact_that_was_not_learnt_is_named(month: Path, capsys: Any) -> None:
    assert run(["edit", "2032-03.jsonl", "--set", "steps=1", "--set", "second_moment_weight=1e9"]) == 0
    err = capsys.readouterr().err
    missed = json.loads((month / "2032-03.jsonl").read_text().splitlines()[0])["requested_rewrite"]["subject"]
    line = next(line for line in err.splitlines() if "of 4 learnt" in line)
    assert line.startswith("0 of 4 learnt; not learnt: ")
    assert f"{missed} (" in line
    assert run(["report", "--out", "report"]) == 0
    page = (month / "report" / "report.html").read_text()
    assert page.count('data-fact="missed"') == 4


def test_an_adapter_alone_says_what_was_learnt_too(month: Path, capsys: Any) -> None:
    assert run(["edit", "2032-03.jsonl", "--out", "alone", "--model", MODEL, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["learnt"]["requests"] == 4
    assert f"{found['learnt']['learnt']} of 4 learnt" in captured.err
    assert run(["edit", "2032-03.jsonl", "--out", "other", "--model", MODEL, "--gate", "ES: min 1"]) == 2
    assert "--out writes an adapter alone" in capsys.readouterr().err


def test_a_kept_gate_that_holds_leaves_the_scores_that_a_run_leaves(month: Path, capsys: Any) -> None:
    assert run(["config", "gates", "ES: min 50", "cola.mcc: max_drop 2", "converged: min 0"]) == 0
    assert run(["config", "tasks", "cola=cola.jsonl"]) == 0
    assert run(["edit", "2032-03.jsonl", "-m", "March"]) == 0
    capsys.readouterr()
    assert run(["edit", "2032-04.jsonl", "-m", "April", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [gate["tripped"] for gate in found["gates"]] == [False, False, False]
    assert found["reverted"] is None
    assert found["scores"]["earlier"]["requests"] == 4
    assert {"mcc", "change", "ci_low", "ci_high"} <= set(found["scores"]["tasks"]["cola"])
    assert run(["log", "--json"]) == 0
    assert [row["scores"].get("ES") is not None for row in json.loads(capsys.readouterr().out)] == [True, True, True]
    # The command line goes before what is kept: one gate, and it is broken.
    assert run(["eval", "--gate", "ES: max 1"]) == 1


def test_a_broken_gate_reverts_the_entry_with_exit_code_1_and_both_stay_in_the_history(
    month: Path, capsys: Any
) -> None:
    assert run(["edit", "2032-03.jsonl", "-m", "March"]) == 0
    capsys.readouterr()
    assert run(["edit", "2032-04.jsonl", "-m", "April", "--gate", "ES: max 1", "--json"]) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["gates"][0]["tripped"]
    assert "breaks a gate: tripped: ES: max 1" in captured.err
    with Ledger.open(month / "ledger") as opened:
        assert opened.resolve("HEAD") == found["reverted"]
        assert opened.entry("HEAD").targets == (found["id"],)
        assert [entry.message for entry in opened.active()] == ["March"]
        assert opened.entry(found["id"]).message == "April"
        assert opened.scores(found["id"])["gates"]["ES: max 1"]["tripped"]


def test_a_broken_gate_leaves_the_entry_where_that_is_asked_for(month: Path, capsys: Any) -> None:
    arguments = ["edit", "2032-03.jsonl", "-m", "March", "--gate", "ES: max 1", "--on-gate", "stop"]
    assert run(arguments) == 1
    assert "it stays" in capsys.readouterr().err
    with Ledger.open(month / "ledger") as opened:
        assert [entry.message for entry in opened.active()] == ["March"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--gate", "cola.mcc: min 0.1"], "tasks here: none"),
        (["--gate", "drift.kl: max 1"], "no text is given"),
        (["--gate", "GE: min 1"], "texts are generated"),
        (["--on-gate", "retry", "--gate", "ES: min 1"], "on_gate of an edit must be revert or stop"),
        (["--method", "memmit"], "did you mean 'memit'?"),
        (["--requests", "2032-03.jsonl"], "give the facts once"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_computed(
    more: list[str], named: str, month: Path, capsys: Any
) -> None:
    for dry in ([], ["--dry-run"]):
        assert run(["edit", "2032-03.jsonl", *more, *dry]) == 2
        assert named in capsys.readouterr().err
    with Ledger.open(month / "ledger") as opened:
        assert len(opened.log()) == 1


def test_a_dry_run_shows_what_came_from_the_ledger(month: Path, capsys: Any) -> None:
    assert run(["edit", "2032-03.jsonl", "--dry-run", "--json", "--method", "memit"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["method"] == "memit"
    assert "method" not in plan["defaults"]
    assert plan["defaults"]["preset"] == str(month / "own.yaml")
    assert plan["layers"] == [1, 2]
    assert run(["edit", "2032-03.jsonl", "--dry-run", "--json", "--preset", "rule", "--layers", "1,2"]) == 0
    assert "preset" not in json.loads(capsys.readouterr().out)["defaults"]
    assert run(["config", "--unset", "method"]) == 0
    assert run(["edit", "2032-03.jsonl", "--dry-run"]) == 2
    assert "no method: give --method NAME, or set it once with `seqedit config method NAME`" in capsys.readouterr().err


def test_the_old_way_to_name_the_facts_still_works(month: Path, capsys: Any) -> None:
    assert run(["edit", "--requests", "2032-03.jsonl", "--dry-run", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["facts"]) == 4
    assert run(["edit", "--dry-run"]) == 2
    assert "give the facts once" in capsys.readouterr().err
