"""What a reader of a fact file is told beside its records, once each, and nothing where there is nothing to tell."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqedit.cli.main import run
from seqedit.facts.loading import load_records
from tests.conftest import REFERENCE

COUNTERFACT = {
    "case_id": 1, "pararel_idx": 7, "paraphrase_prompts": [], "neighborhood_prompts": [], "generation_prompts": [],
    "requested_rewrite": {"prompt": "{} lives in", "subject": "Ann", "target_new": {"str": "Lyon"},
                          "target_true": {"str": "Rome"}, "relation_id": "P1"},
}  # fmt: skip
ZSRE = {"subject": "Ann", "src": "Where does Ann live?", "alt": "Lyon", "answers": ["Rome"], "pred": "Rome",
        "rephrase": "In which town is Ann?", "loc": "who is it", "loc_ans": "Bo", "cond": "Rome >> Lyon"}  # fmt: skip
EASYEDIT = {"case_id": 0, "subject": "Ann", "prompt": "Ann lives in", "target_new": "Lyon", "ground_truth": "Rome",
            "rephrase_prompt": "Ann's town is", "locality_prompt": "Bo lives in", "locality_ground_truth": "Oslo",
            "portability_prompt": "Ann speaks", "portability_ground_truth": "French"}  # fmt: skip


def notices(folder: Path, rows: Any, caplog: pytest.LogCaptureFixture, **options: Any) -> list[str]:
    (folder / "facts.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.WARNING):
        load_records(folder / "facts.json", **options)
    return [record.message for record in caplog.records]


@pytest.mark.parametrize("row", [COUNTERFACT, ZSRE, EASYEDIT], ids=["counterfact", "zsre", "easyedit"])
def test_rows_all_of_which_is_read_have_no_notice(
    row: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert notices(tmp_path, [{**row, "two_hop_prompts": [], "note": "seen"}], caplog) == []


@pytest.mark.parametrize(
    ("row", "name"),
    [(COUNTERFACT, "CounterFact"), (ZSRE, "zsRE"), (EASYEDIT, "EasyEdit")],
    ids=["counterfact", "zsre", "easyedit"],
)
def test_fields_that_are_not_scored_are_named_once_for_all_rows(
    row: dict[str, Any], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = json.dumps(row)
    rows = [{**row, "two_hop_prompts": ["Cy"]}, {**json.loads(text.replace("Ann", "Dee")), "two_hop": {"q": "a"}}]
    assert notices(tmp_path, rows, caplog) == [f"fields two_hop_prompts, two_hop of the layout {name} are not scored"]


def test_of_many_fields_the_first_are_named_and_the_others_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (said,) = notices(tmp_path, [{**ZSRE, **{f"x{i}": 1 for i in range(15)}}], caplog)
    assert "x11, and 3 more of the layout zsRE" in said


def test_records_that_ask_for_what_is_true_already_are_counted_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {**ZSRE, "subject": f"Ann{i}", "src": f"Where does Ann{i} live?", "alt": "Rome " if i > 1 else "Lyon"}
        for i in range(8)
    ]
    (said,) = notices(tmp_path, rows, caplog)
    assert said.startswith(f"{tmp_path / 'facts.json'}: 6 of 8 records have a target_new that equals their target_true")
    assert "(records 3, 4, 5, 6, 7 and 1 more)" in said


def test_a_right_answer_that_is_taught_on_purpose_is_no_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert notices(tmp_path, [{**ZSRE, "alt": "Rome"}], caplog, zsre="memit") == []


def test_real_files_have_the_notices_that_are_due_and_no_other(
    shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_records(shared_data / "counterfact_2000.json")
        assert caplog.records == []
        load_records(shared_data / "zsre_500.json")
    (said,) = (record.message for record in caplog.records)
    assert ": 10 of 500 records have a target_new that equals" in said


@pytest.mark.parametrize("name", ["demo:counterfact.json", "demo:zsre.json"])
def test_shipped_files_have_no_notice(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_records(name)
    assert [record.message for record in caplog.records] == []


def test_a_run_that_reads_its_facts_twice_has_one_line_for_each_notice(tmp_path: Path, capsys: Any) -> None:
    rows = [{**ZSRE, "subject": f"Ann{i}", "src": f"Where does Ann{i} live?", "alt": "Rome", "seen": 1} for i in (0, 1)]
    (tmp_path / "facts.json").write_text(json.dumps(rows))
    settings = {
        "model": str(REFERENCE / "model"), "facts": "facts.json", "batch_size": 2, "out": "out", "method": "ft",
        "settings": {"layers": [1], "learning_rate": 0.01, "steps": 1}, "context_templates": [["{}"]],
        "evals": {"generation": False, "drift": False},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert run(["run", str(tmp_path / "run.yaml"), "--dry-run"]) == 0
    err = capsys.readouterr().err
    assert err.count("fields seen of the layout zsRE are not scored") == 1
    assert err.count("2 of 2 records have a target_new that equals") == 1
