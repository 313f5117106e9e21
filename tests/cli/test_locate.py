"""`seqedit locate`, as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")


@pytest.fixture
def records(tmp_path: Path) -> str:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    (tmp_path / "records.json").write_text(json.dumps(case["records"]))
    return str(tmp_path / "records.json")


def call(records: str, *more: str) -> int:
    return run(["locate", "--model", MODEL, "--records", records, "--limit", "3", "--samples", "2", *more])


def test_the_table_ends_with_layers_to_paste(records: str, capsys: Any) -> None:
    assert call(records) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 facts traced, 0 left out because the model gives another answer"
    assert "FFN and attention over 2 layers at a time" in lines[2]
    assert [line.split()[0] for line in lines[5:11]] == list("012345")
    assert sum(line.endswith(" *") for line in lines) == 1
    assert lines[-1].startswith("--layers ")


def test_out_holds_the_numbers_the_table_and_the_picture(records: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "where"
    assert call(records, "--out", str(out), "--window", "1", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert sorted(p.name for p in out.iterdir()) == ["locate.csv", "locate.json", "locate.png"]
    assert json.loads((out / "locate.json").read_text()) == printed
    assert printed["model"] == MODEL
    assert printed["settings"]["window"] == 1
    assert printed["suggested"]["layers"]
    rows = list(csv.DictReader((out / "locate.csv").read_text().splitlines()))
    assert len(rows) == 3 * 6 * 6
    for row in rows:
        point = printed["effects"][row["kind"]][row["token"]][int(row["layer"])]
        assert row["mean"] == ("" if point["mean"] is None else str(point["mean"]))
    assert (out / "locate.png").read_bytes().startswith(b"\x89PNG")
    assert call(records, "--out", str(tmp_path / "again"), "--window", "1") == 0
    for name in ("locate.csv", "locate.json", "locate.png"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("subject", ["Venxa Ulmigri", "a"])
def test_prompts_that_end_with_their_subject_are_reported_and_drawn(subject: str, tmp_path: Path, capsys: Any) -> None:
    fact = {"subject": subject, "prompt": "The sport of {}", "target_new": "golf"}
    (tmp_path / "facts.jsonl").write_text(json.dumps(fact))
    assert call(str(tmp_path / "facts.jsonl"), "--out", str(tmp_path / "out")) == 0
    assert "suggested layers: none, because every prompt ends with its subject" in capsys.readouterr().out
    assert (tmp_path / "out" / "locate.png").is_file()


UNKNOWN = '{"subject": "Lyon", "prompt": "The twin city of {} is", "target_new": "Manila", "target_true": "golf"}'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "samples must be at least 1, got 0"),
        (["--noise", "0"], "--noise 0 corrupts nothing"),
        (["--noise", "-1"], "noise must be a finite number that is not negative"),
        (["--window", "9"], "a window of 9 layers is wider than the model, which has 6"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--records", "nowhere.json"], "no such file"),
        (["--records", "unknown.jsonl"], "none of the 1 facts is known to the model"),
        (["--model", "/nowhere"], "no model directory at"),
        (["--out", "full"], "exists and is not an empty directory"),
    ],
)
def test_bad_input_is_one_line_with_code_2_and_nothing_written(
    arguments: list[str], message: str, records: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unknown.jsonl").write_text(UNKNOWN)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    # Of an option that is given twice the last one counts.
    more = ["--out", "new"] if "--out" not in arguments else []
    assert call(records, *more, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
