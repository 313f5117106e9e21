"""``seqedit report``: from a ledger, from a summary, of several branches, with a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seqedit.cli.main import run
from tests.runs.test_run import change, folder  # noqa: F401


def test_a_report_of_a_ledger_marks_what_was_reverted_and_compares_branches(folder: Path, capsys: Any) -> None:  # noqa: F811
    assert run(["run", str(change(folder, steps=2))]) == 0
    ledger, out = str(folder / "out" / "ledger"), folder / "page"
    branch = json.loads((folder / "out" / "summary.json").read_text())["steps"]
    assert [step["active"] for step in branch] == [True, True]
    assert run(["revert", "HEAD", "--ledger", ledger]) == 0
    assert run(["report", "--ledger", ledger, "--out", str(out)]) == 0
    text = (out / "report.html").read_text("utf-8")
    assert "reverted at step 3" in text
    facts = json.loads((out / "data" / "facts.json").read_text("utf-8"))
    assert {(row["step"], row["in_force"]) for row in facts} == {(1, True), (2, False)}
    capsys.readouterr()
    assert run(["report", "HEAD", "HEAD~1", "--ledger", ledger, "--out", str(out)]) == 0
    assert '<h2 id="runs">' in (out / "report.html").read_text("utf-8")


def test_a_report_of_a_summary_takes_a_comparison_and_no_revision(folder: Path, capsys: Any) -> None:  # noqa: F811
    assert run(["run", str(change(folder, steps=1))]) == 0
    summary, table = str(folder / "out" / "summary.json"), folder / "comparison.json"
    row = {
        "label": "memit",
        "cells": {"ES": {"value": 98.5, "low": 97.0, "high": 99.5}},
        "seconds_per_edit": 0.5,
        "note": "",
    }
    table.write_text(json.dumps({"title": "t", "rows": [row]}))
    out = folder / "page"
    assert run(["report", "--summary", summary, "--comparison", str(table), "--out", str(out)]) == 0
    assert "97.0 to 99.5" in (out / "report.html").read_text("utf-8")
    assert run(["report", "HEAD", "--summary", summary, "--out", str(out)]) == 2
    table.write_text("[]")
    capsys.readouterr()
    assert run(["report", "--summary", summary, "--comparison", str(table), "--out", str(out)]) == 2
    assert "not what `seqedit compare` writes" in capsys.readouterr().err
