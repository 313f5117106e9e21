"""The verbs on a ledger, as a user runs them: init, edit --ledger, add, swap, merge, rebase, branches, diff, undo."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")
FT = ["--method", "ft", "--layers", "2", "--set", "steps=3"]
MEMIT = ["--method", "memit", "--layers", "2", "--spread", "single", "--set", "steps=3"]
GIVEN = ["--second-moments", str(REFERENCE / "second_moments.safetensors")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    for number in range(4):
        (tmp_path / f"facts{number}.json").write_text(json.dumps(case["records"][2 * number : 2 * number + 2]))
    (tmp_path / "templates.json").write_text(json.dumps([["{}"]]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQEDIT_LEDGER", str(tmp_path / "ledger"))
    assert run(["init", "--model", MODEL]) == 0
    return tmp_path


def edit(number: int, *more: str, method: list[str] | None = None) -> None:
    given = ["--requests", f"facts{number}.json", "--context-templates", "templates.json", *(method or FT)]
    assert run(["edit", "--ledger", "ledger", *given, *GIVEN, *more]) == 0


def log(capsys: Any) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["log", "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def state_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in (folder / "ledger").rglob("*") if p.is_file()):
        digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


def test_a_ledger_is_begun_extended_and_never_begun_twice(place: Path, capsys: Any) -> None:
    edit(0, "-m", "first")
    edit(1)
    rows = log(capsys)
    assert [row["operation"] for row in rows] == ["edit", "edit", "root"]
    assert rows[1]["message"] == "first"
    assert run(["init", "--model", MODEL]) == 2
    assert "already" in capsys.readouterr().err


def test_an_adapter_directory_becomes_an_entry_and_is_refused_a_second_time(place: Path, capsys: Any) -> None:
    assert run(["edit", "--model", MODEL, "--requests", "facts0.json", *FT, "--out", "made"]) == 0
    assert run(["add", "made", "--dry-run"]) == 0
    assert len(log(capsys)) == 1
    assert run(["add", "made", "-m", "by hand"]) == 0
    assert log(capsys)[0]["message"] == "by hand"
    assert run(["add", "made"]) == 2
    assert "already active" in capsys.readouterr().err


def test_facts_that_are_superseded_are_told_before_anything_is_computed(place: Path, capsys: Any) -> None:
    edit(0)
    record = json.loads((place / "facts0.json").read_text())[0]
    record["requested_rewrite"]["target_new"]["str"] = "Norway"
    (place / "facts1.json").write_text(json.dumps([record]))
    capsys.readouterr()
    edit(1, "--dry-run", "--json")
    plan = json.loads(capsys.readouterr().out)
    assert "supersedes" in plan["overlaps"][0]
    assert "Norway" in plan["overlaps"][0]
    assert len(log(capsys)) == 2


DRY_RUNS = {
    "edit": ["edit", "--ledger", "ledger", "--requests", "facts3.json", *FT],
    "edit to a folder": ["edit", "--model", MODEL, "--requests", "facts3.json", *FT, "--out", "nowhere"],
    "swap": ["swap", "HEAD~1", *FT, "--set", "steps=2"],
    "merge by sum": ["merge", "HEAD", "HEAD~1", "--how", "sum"],
    "merge by solving": ["merge", "HEAD", "HEAD~1", "--how", "solve"],
    "rebase": ["rebase"],
    "reorder": ["reorder", "HEAD", "HEAD~1"],
    "revert": ["revert", "HEAD"],
    "reset": ["reset", "HEAD~1"],
    "undo": ["undo"],
    "branch": ["branch", "topic", "HEAD~1"],
    "deleting a branch": ["branch", "-d", "spare"],
    "checkout": ["checkout", "spare"],
    "checkout of a new branch": ["checkout", "-b", "topic"],
    "init": ["init", "--model", MODEL, "--ledger", "nowhere"],
}


@pytest.mark.parametrize("command", DRY_RUNS.values(), ids=DRY_RUNS.keys())
def test_a_dry_run_says_what_would_happen_and_touches_neither_model_nor_ledger(
    command: list[str], place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        edit(number, method=MEMIT)
    assert run(["branch", "spare"]) == 0
    capsys.readouterr()
    before = state_of(place)

    def loaded(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a dry run loaded the model")

    monkeypatch.setattr("seqedit.models.loading.load_model", loaded)
    monkeypatch.setattr("seqedit.editing.loading.load_model", loaded)
    assert run([*command, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert captured.out + captured.err
    assert state_of(place) == before
    assert not (place / "nowhere").exists()


def test_a_dry_run_names_facts_layers_and_size(place: Path, capsys: Any) -> None:
    edit(0, method=MEMIT)
    capsys.readouterr()
    assert run(["swap", "HEAD", "--set", "steps=2", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["layers"] == [2]
    assert plan["settings"]["steps"] == 2
    assert plan["adapter_bytes"] == 4 * 2 * (128 + 512)  # two facts, rank 2
    assert len(plan["facts"]) == 2


def test_swap_rebase_and_undo_through_the_command_line(place: Path, capsys: Any) -> None:
    for number in range(3):
        edit(number)
    first = log(capsys)[2]
    assert run(["swap", "HEAD~2", *FT, "--set", "steps=2"]) == 0
    assert "2 later entries" in capsys.readouterr().err
    rows = log(capsys)
    assert rows[0]["operation"] == "swap"
    assert {row["id"]: row["active"] for row in rows}[first["id"]] is False
    assert run(["rebase"]) == 0
    told = capsys.readouterr()
    assert "recompute" in told.out
    assert told.err.count("% of the weights, load") == told.out.count("recompute ")  # the diagnosis of each
    assert [row["operation"] for row in log(capsys)] == ["edit", "edit", "edit", "root"]
    assert run(["undo"]) == 0
    assert log(capsys) == rows
    assert run(["rebase", "--abort"]) == 0


def test_merging_by_every_way_leaves_one_entry_for_two(place: Path, capsys: Any) -> None:
    for number in range(2):
        edit(number, method=MEMIT)
    for how in ("sum", "solve", "ties", "dare"):
        assert run(["merge", "HEAD", "HEAD~1", "--how", how, *(GIVEN if how == "solve" else [])]) == 0
        active = [row for row in log(capsys) if row["active"]]
        assert [row["operation"] for row in active] == ["merge"]
        assert active[0]["requests"] == 4
        assert run(["undo"]) == 0
    assert run(["merge", "HEAD", "HEAD~1", "--how", "average"]) == 2
    assert "sum, solve, ties, dare" in capsys.readouterr().err


def test_branches_are_made_listed_switched_moved_and_deleted(place: Path, capsys: Any) -> None:
    edit(0)
    assert run(["checkout", "-b", "topic"]) == 0
    edit(1)
    capsys.readouterr()
    assert run(["branch", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["current"] == "topic"
    assert set(found["branches"]) == {"main", "topic"}
    assert run(["reset", "main"]) == 0
    assert len(log(capsys)) == 2
    assert run(["undo"]) == 0
    assert len(log(capsys)) == 3
    assert run(["branch", "-d", "topic"]) == 2
    assert "HEAD is on" in capsys.readouterr().err
    assert run(["checkout", "main"]) == 0
    assert run(["branch", "--delete", "topic"]) == 0
    assert run(["checkout", "topic"]) == 2
    capsys.readouterr()
    assert run(["reflog", "topic", "--json"]) == 0
    moves = json.loads(capsys.readouterr().out)
    assert moves[0]["new"] is None
    assert moves[-1]["old"] is None
    assert run(["branch", "topic", moves[0]["old"]]) == 0  # nothing was lost


def test_a_diff_tells_facts_norms_and_answers(place: Path, capsys: Any) -> None:
    edit(0)
    edit(1)
    assert run(["revert", "HEAD~1"]) == 0
    capsys.readouterr()
    assert run(["diff", "HEAD~2", "HEAD", "--json", "--answers", "--probe", "The capital of France is"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(fact["kind"] for fact in found["facts"]) == ["added", "added", "dropped", "dropped"]
    assert all(norm > 0 for norm in found["delta_norms"].values())
    assert all(isinstance(fact["answer_old"], str) for fact in found["facts"])
    assert found["probes"][0]["prompt"] == "The capital of France is"
    assert run(["diff", "HEAD", "HEAD"]) == 0
    assert "no fact differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["swap", "HEAD"], "root"),
        (["merge", "HEAD", "HEAD"], "twice"),
        (["reorder", "HEAD"], "not active"),
        (["undo"], "nothing to undo"),
        (["edit", "--requests", "facts0.json", *FT, "--out", "x"], "--model"),
        (["bisect", "ES"], "--records"),
        (["bisect", "ppl"], "--text"),
        (["diff", "nowhere"], "nowhere"),
        (["branch", "--delete"], "name"),
        (["branch", "main", "--dry-run"], "already"),
        (["branch", "-d", "main", "--dry-run"], "HEAD is on"),
        (["checkout", "nowhere", "--dry-run"], "nowhere"),
        (["checkout", "-b", "main", "--dry-run"], "already"),
        (["init", "--model", MODEL, "--dry-run"], "already"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(command: list[str], named: str, place: Path, capsys: Any) -> None:
    before = state_of(place)
    assert run(command) == 2
    assert named in capsys.readouterr().err
    assert state_of(place) == before


def test_blame_names_who_set_superseded_and_reverted_a_fact(place: Path, capsys: Any) -> None:
    edit(0)
    record = json.loads((place / "facts0.json").read_text())[0]
    record["requested_rewrite"]["target_new"]["str"] = "Norway"
    subject = record["requested_rewrite"]["subject"]
    (place / "facts1.json").write_text(json.dumps([record]))
    edit(1)
    newest, oldest = (row["id"] for row in log(capsys)[:2])

    def answers() -> list[tuple[str, str, str | None]]:
        capsys.readouterr()
        assert run(["blame", subject, "--json"]) == 0
        return [(a["entry"], a["status"], a["by"]) for a in json.loads(capsys.readouterr().out)]

    assert answers() == [(oldest, "superseded", newest), (newest, "in force", None)]
    assert run(["revert", "HEAD"]) == 0
    reverted = log(capsys)[0]["id"]
    assert answers() == [(oldest, "in force", None), (newest, "out of force", reverted)]
    assert run(["checkout", "-b", "past"]) == 0
    assert run(["reset", oldest]) == 0
    assert answers() == [(oldest, "in force", None)]
    assert run(["blame", subject, "--all"]) == 0
    assert "elsewhere" in capsys.readouterr().out
    assert run(["blame", subject.upper()]) == 2
    assert subject in capsys.readouterr().err


def test_a_swap_in_place_does_not_take_a_fact_from_a_later_entry(place: Path, capsys: Any) -> None:
    edit(0)
    record = json.loads((place / "facts0.json").read_text())[0]
    record["requested_rewrite"]["target_new"]["str"] = "Norway"
    (place / "facts1.json").write_text(json.dumps([record]))
    edit(1)
    later = log(capsys)[0]["id"]
    assert run(["swap", "HEAD~1", "--set", "steps=2"]) == 0
    swapped = log(capsys)[0]["id"]
    assert run(["blame", record["requested_rewrite"]["subject"], "--json"]) == 0
    found = {a["entry"]: (a["status"], a["by"]) for a in json.loads(capsys.readouterr().out)}
    assert found[later] == ("in force", None)
    assert found[swapped] == ("superseded", later)
