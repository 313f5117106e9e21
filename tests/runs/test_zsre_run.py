"""zsRE in `run`, `compare` and `edit`: by either convention, with zsRE's own scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqedit.cli.main import run as cli_main
from seqedit.comparing.compare import compare
from seqedit.comparing.compare_config import compare_config
from seqedit.runs.config import read_run_config, run_config
from seqedit.runs.runner import run
from tests.conftest import REFERENCE

ROWS = [
    {
        "subject": name, "src": f"What sport does {name} play?", "pred": "golf", "rephrase": f"{name} plays what?",
        "alt": "rowing", "answers": ["golf", "the golf"], "loc": "nq question: where is it",
        "loc_ans": "here", "cond": "",
    }
    for name in ("Venxa Ulmigri", "Bado Holul")
]  # fmt: skip


def configuration(folder: Path, **fields: Any) -> dict[str, Any]:
    (folder / "z.json").write_text(json.dumps(ROWS))
    return {
        "model": str(REFERENCE / "model"), "facts": "z.json", "method": "ft", "batch_size": 1, "out": "out",
        "settings": {"layers": [1], "learning_rate": 1e-3, "steps": 1}, "context_templates": [["{}"]],
        "evals": {"generation": False, "resamples": 50}, **fields,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("zsre", "taught"), [("memit", "golf"), ("answers", "golf"), ("mend", "rowing"), (None, "rowing")]
)
def test_a_run_teaches_by_the_zsre_convention_and_reports_its_scores(
    tmp_path: Path, zsre: str | None, taught: str
) -> None:
    data = configuration(tmp_path, **({} if zsre is None else {"zsre": zsre}))
    summary = run(run_config(data, tmp_path))
    assert [fact["target_new"] for step in summary["steps"] for fact in step["facts"]] == [taught] * 2
    for step in summary["steps"]:
        assert all(step[name] is not None for name in ("ET", "PT", "NT", "EM", "PM", "NM"))
        assert (step["S"] is None) == (taught == "golf")


def test_a_comparison_shows_zsres_own_scores_where_s_is_none(tmp_path: Path) -> None:
    data = configuration(tmp_path, zsre="memit", methods={"ft": {"settings": {"layers": [1], "steps": 1}}})
    del data["method"], data["settings"]
    rows = compare(compare_config(data, tmp_path))
    for row in rows:
        assert all(row.cells[name].value is not None for name in ("ET", "PT", "NT"))
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert "| ET | PT | NT |" in table
    assert "GE, RS: not measured" in table


def test_an_unknown_convention_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(configuration(tmp_path, zsre="rome")))
    with pytest.raises(ValueError, match="unknown zsRE convention 'rome'"):
        read_run_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(("zsre", "taught"), [("alt", "rowing"), ("memit", "golf")])
def test_edit_teaches_by_the_zsre_convention(tmp_path: Path, capsys: Any, zsre: str, taught: str) -> None:
    configuration(tmp_path)
    arguments = ["edit", "--model", str(REFERENCE / "model"), "--requests", str(tmp_path / "z.json"), "--method", "ft",
                 "--layers", "1", "--zsre", zsre, "--out", str(tmp_path / "edit"), "--dry-run", "--json"]  # fmt: skip
    assert cli_main(arguments) == 0
    assert {fact["target_new"] for fact in json.loads(capsys.readouterr().out)["facts"]} == {taught}
