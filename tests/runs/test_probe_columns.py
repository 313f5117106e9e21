"""Portability and locality where a user reads them: the table of `compare`, the report, the lines of a run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqedit.cli.main import run
from seqedit.cli.output import StepTable
from tests.conftest import REFERENCE

CASE = REFERENCE / "multi_layer_batch8" / "case.json"
PROBES = {
    "portability": {"Reasoning": [{"prompt": "It rained. They speak", "ground_truth": "the"}]},
    "locality": {"Forgetfulness": [{"prompt": "It rained. He plays", "ground_truth": [["golf"]]}]},
}


def facts(probed: bool) -> list[dict[str, Any]]:
    """Four facts of the reference case in KnowEdit's layout."""
    rows = []
    for number, record in enumerate(json.loads(CASE.read_text())["records"][:4]):
        asked = record["requested_rewrite"]
        row = {
            "case_id": number, "subject": asked["subject"], "prompt": asked["prompt"],
            "target_new": asked["target_new"]["str"], "ground_truth": asked["target_true"]["str"],
        }  # fmt: skip
        rows.append({**row, **PROBES} if probed else row)
    return rows


def write(folder: Path, probed: bool, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "facts.json").write_text(json.dumps(facts(probed)))
    data = {
        "model": str(REFERENCE / "model"), "facts": "facts.json", "batch_size": 2, "out": "out",
        "context_templates": [["{}"]], "evals": {"generation": False, "drift": False}, **fields,
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return folder / "run.yaml"


FT = {"layers": [1, 2], "learning_rate": 0.05, "steps": 5}
METHODS = {"methods": {"ft": {"settings": FT}}}
MAIN = ("portability", "portability_exact", "locality", "locality_kept")


@pytest.mark.parametrize("independent", [False, True])
def test_a_comparison_has_the_columns_with_intervals_and_says_why_one_is_null(
    tmp_path: Path, capsys: Any, independent: bool
) -> None:
    config = write(tmp_path, True, **METHODS, **({"independent": True} if independent else {}))
    assert run(["compare", str(config), "--json"]) == 0
    unedited, edited = json.loads(capsys.readouterr().out)["rows"]
    assert unedited["cells"]["locality"]["value"] == 100
    for name in ("portability", "locality", "portability/reasoning", "locality/forgetfulness"):
        cell = edited["cells"][name]
        assert cell["low"] <= cell["value"] <= cell["high"]
    for row in (unedited, edited):
        empty = {name for name in MAIN if row["cells"][name]["value"] is None}
        assert empty == set(row["missing"])
    out = tmp_path / "out"
    (_, made) = csv.DictReader((out / "comparison.csv").read_text().splitlines())
    assert float(made["locality/forgetfulness"]) == edited["cells"]["locality/forgetfulness"]["value"]
    table = (out / "comparison.md").read_text()
    assert "| portability |" in table
    for name, reason in edited["missing"].items():
        assert f"\n{name}: null: {reason}\n" in table
    before = json.loads((out / "comparison.json").read_text())["rows"]
    assert run(["compare", str(config), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == before
    if not independent:  # of which no ledger is left
        assert run(["report", "compare/ft", "--ledger", str(out / "ledger"), "--out", str(tmp_path / "page"),
                    "--comparison", str(out / "comparison.json")]) == 0  # fmt: skip
        methods = (tmp_path / "page" / "report.html").read_text().split('id="comparison"')[1].split("</table>")[0]
        assert '<th scope="col">locality/forgetfulness</th>' in methods


def test_a_comparison_of_facts_without_such_questions_has_no_empty_column_and_its_json_the_reason(
    tmp_path: Path, capsys: Any
) -> None:
    assert run(["compare", str(write(tmp_path, False, **METHODS)), "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["rows"]:
        assert row["cells"]["locality"] == {"value": None, "low": None, "high": None}
        assert row["missing"]["portability"] == "no record has a portability prompt"
    for kind in ("md", "csv", "tex"):
        assert "locality" not in (tmp_path / "out" / f"comparison.{kind}").read_text()


def test_a_run_shows_the_columns_in_its_lines_its_report_and_its_data(tmp_path: Path, capsys: Any) -> None:
    config = write(tmp_path, True, method="ft", settings=FT)
    assert run(["run", str(config)]) == 0
    head, *lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert head[:2] == ["step", "entry"]
    assert next(name for name in head if name in MAIN) == "portability"
    at = head.index("locality") - len(head)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    told = [line for line in lines for step in summary["steps"] if line[1] == step["entry"][:8]]
    assert [float(line[at]) for line in told] == [round(step["locality"], 1) for step in summary["steps"]]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Portability and locality" in page
    assert "locality/forgetfulness" in page
    rows = json.loads((tmp_path / "out" / "data" / "steps.json").read_text())
    assert [row["locality/forgetfulness"] for row in rows[1:]] == [s["locality"] for s in summary["steps"]]
    assert rows[-1]["earlier_locality"] == summary["steps"][-1]["earlier"]["locality"]


def test_a_run_of_facts_without_such_questions_shows_none_of_them(tmp_path: Path, capsys: Any) -> None:
    assert run(["run", str(write(tmp_path, False, method="ft", settings=FT))]) == 0
    assert "locality" not in capsys.readouterr().out
    assert "ortability" not in (tmp_path / "out" / "report.html").read_text()
    assert "locality" not in (tmp_path / "out" / "data" / "steps.csv").read_text()


def test_an_edit_with_a_gate_shows_them_and_the_gate_goes_by_them(tmp_path: Path, capsys: Any) -> None:
    write(tmp_path, True)
    (tmp_path / "templates.json").write_text(json.dumps([["{}"]]))
    ledger = str(tmp_path / "ledger")
    assert run(["init", "--ledger", ledger, "--model", str(REFERENCE / "model")]) == 0
    options = [f"--set={name}={json.dumps(value)}" for name, value in FT.items()]
    code = run(["edit", str(tmp_path / "facts.json"), "--ledger", ledger, "--method", "ft", *options,
                "--context-templates", str(tmp_path / "templates.json"), "--gate", "portability: min 0"])  # fmt: skip
    err = capsys.readouterr().err
    assert code == 0, err
    head = next(line.split() for line in err.splitlines() if line.startswith("step "))
    assert [name for name in head if name in MAIN][:1] == ["portability"]
    assert "portability" in err.splitlines()[-1]
    assert run(["status", "--ledger", ledger, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scored"]["scores"]["locality"] == 100
    assert run(["export", "--ledger", ledger, "--format", "peft", "--out", str(tmp_path / "shipped")]) == 0
    assert "| locality |" in (tmp_path / "shipped" / "README.md").read_text()


def test_columns_that_the_heading_does_not_have_stand_below_their_step() -> None:
    stream = io.StringIO()
    table = StepTable(stream)
    table.baseline({"counterfact": {"ES": 10.0}})
    table.step({"step": 1, "entry": "0123456789", "ES": 90.0, "portability": 50.0, "locality": None})
    table.step({"step": 2, "entry": "1123456789", "ES": 90.0})
    lines = stream.getvalue().splitlines()
    assert "ortability" not in lines[0]
    assert lines[3] == "     portability 50.0"
    assert len(lines) == 5
