"""``--skip-unusable`` goes on with the rest of a file and says in every output what was left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.report.report import write_report
from ledger import Ledger
from seqedit.cli.main import run
from seqedit.runs.config import run_config
from seqedit.runs.runner import run as run_batches
from seqedit.scoring.summary import build_summary
from tests.cases.test_case_files import mquake
from tests.conftest import REFERENCE
from tests.facts.test_malformed_facts import ZSRE

MODEL = str(REFERENCE / "model")
FT = ["--method", "ft", "--layers", "1", "--set", "steps=1"]
COUNTED = {"skipped": 1, "of": 3, "reasons": {"field 'alt' is empty": [{"record": 2}]}}


@pytest.fixture
def facts(tmp_path: Path) -> str:
    rows = [ZSRE, {**ZSRE, "alt": ""}, {**ZSRE, "subject": "Lyon", "src": "What is made in Lyon?"}]
    (tmp_path / "facts.json").write_text(json.dumps(rows))
    return str(tmp_path / "facts.json")


def arguments(verb: str, facts: str, out: str) -> list[str]:
    return {
        "edit": ["--requests", facts, *FT, "--out", out],
        "plan": [facts, "--method", "memit", "--layers", "1"],
        "score": ["--records", facts, "--json"],
        "locate": ["--records", facts, "--samples", "2", "--dry-run", "--json"],
        "tune": ["--records", facts, "--out", out],
        "train-mend": ["--records", facts, "--layers", "1", "--out", out, "--dry-run", "--json"],
        "benchmark": ["real-life", "--records", facts, "--dry-run", "--json"],
    }[verb]


@pytest.mark.parametrize("verb", ["edit", "plan", "score", "locate", "tune", "train-mend", "benchmark"])
def test_without_it_every_verb_names_the_record_and_the_option(
    verb: str, facts: str, tmp_path: Path, capsys: Any
) -> None:
    assert run([verb, *arguments(verb, facts, str(tmp_path / "out")), "--model", MODEL]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "record 2: field 'alt' is empty" in captured.err
    assert "--skip-unusable" in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["score", "locate", "train-mend", "benchmark"])
def test_with_it_terminal_and_json_count_what_was_left_out(verb: str, facts: str, tmp_path: Path, capsys: Any) -> None:
    more = arguments(verb, facts, str(tmp_path / "out"))
    if verb == "train-mend":
        more += ["--set", "validation_share=0.5"]
    assert run([verb, *more, "--model", MODEL, "--skip-unusable"]) == 0
    captured = capsys.readouterr()
    assert f"{facts}: 1 of 3 records left out as unusable: field 'alt' is empty (record 2)\n" in captured.err
    assert json.loads(captured.out)["skipped"] == {"source": facts, **COUNTED}


def test_an_adapter_keeps_what_was_left_out(facts: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert run(["edit", "--model", MODEL, *arguments("edit", facts, str(out)), "--skip-unusable", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["requests"], printed["skipped"]) == (2, {"source": facts, **COUNTED})
    from seqedit.adapters.adapter import Adapter

    assert Adapter.from_pretrained(out).provenance["skipped"] == printed["skipped"]


def test_a_run_an_entry_a_summary_and_a_report_keep_what_was_left_out(facts: str, tmp_path: Path) -> None:
    config = run_config(
        {
            "model": MODEL, "facts": "facts.json", "method": "ft", "settings": {"layers": [1], "steps": 1},
            "batch_size": 1, "skip_unusable": True, "out": "out",
            "evals": {"counterfact": False, "generation": False, "drift": False},
        },
        tmp_path,
    )  # fmt: skip
    summary = run_batches(config)
    assert summary["skipped"] == [{"source": "facts.json", **COUNTED}]  # once, though two steps are of the file
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["skipped"] == summary["skipped"]
    with Ledger.open(config.ledger) as ledger:
        assert build_summary(ledger)["skipped"] == summary["skipped"]
        entry = ledger.log()[0]
        assert ledger.adapter(entry).provenance["skipped"] == summary["skipped"][0]
    page = write_report(summary, tmp_path / "page").read_text("utf-8")
    assert "1 of 3 records left out" in page
    assert "field &#39;alt&#39; is empty" in page


def test_cases_of_mquake_are_left_out_and_counted(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "m.json").write_text(json.dumps([mquake(), mquake(answer=["a"])]))
    call = ["benchmark", "mquake", "--model", MODEL, "--records", str(tmp_path / "m.json"), "--dry-run", "--json"]
    assert run(call) == 2
    assert "record 2: field 'answer' must be a string, got list" in capsys.readouterr().err
    assert run([*call, "--skip-unusable"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cases"], len(found["left_out"]), found["skipped"]["skipped"]) == (1, 1, 1)


def test_duplicates_are_named_by_their_numbers_in_the_file(facts: str, tmp_path: Path, capsys: Any) -> None:
    rows = json.loads(Path(facts).read_text())
    Path(facts).write_text(json.dumps([*rows, rows[0]]))
    call = ["edit", "--model", MODEL, *arguments("edit", facts, str(tmp_path / "out")), "--skip-unusable"]
    assert run(call) == 2
    assert "(records 1 and 4 of the file)" in capsys.readouterr().err
