"""A comparison of methods: one ledger, the table of the papers, failures told in the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.report.comparison import Cell, ComparisonRow, csv_text, latex, markdown
from ledger import Ledger
from seqedit.cli.main import run
from tests.conftest import REFERENCE

CASE = REFERENCE / "multi_layer_batch8" / "case.json"
CLOSED_FORM = {"layers": [1, 2], "steps": 8, "second_moment_weight": 50, "clamp_norm_factor": 1.5}
METHODS: dict[str, Any] = {
    "memit": {"settings": CLOSED_FORM},
    "memit protected": {"method": "memit", "settings": {**CLOSED_FORM, "protect_earlier": True}},
    "ft": {"settings": {"layers": [1, 2], "learning_rate": 5e-3, "steps": 10}},
}
COLA = [
    {"sentence": "Venxa Ulmigri plays golf.", "label": 1, "idx": 0},
    {"sentence": "Venxa plays Ulmigri of golf the.", "label": 0, "idx": 1},
]


def write(folder: Path, **fields: Any) -> Path:
    (folder / "facts.json").write_text(json.dumps(json.loads(CASE.read_text())["records"]))
    (folder / "cola.jsonl").write_text("\n".join(map(json.dumps, COLA)))
    data = {
        "model": str(REFERENCE / "model"),
        "facts": "facts.json",
        "batch_size": 4,
        "out": "out",
        "methods": METHODS,
        "second_moments": {"file": str(REFERENCE / "second_moments.safetensors")},
        "context_templates": [["{}"], ["It rained. {}"]],
        "tasks": {"cola": "cola.jsonl"},
        "evals": {"generation_tokens": 5, "generation_records": 2, "resamples": 100},
        **fields,
    }
    (folder / "compare.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return folder / "compare.yaml"


def test_every_method_is_a_branch_and_a_row_scored_on_all_facts(tmp_path: Path, capsys: Any) -> None:
    config = write(tmp_path)
    assert run(["compare", str(config), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["label"] for row in rows] == ["unedited", *METHODS]
    assert rows[0]["seconds_per_edit"] is None
    for row in rows[1:]:
        assert row["seconds_per_edit"] > 0
        assert row["cells"]["ES"]["value"] > rows[0]["cells"]["ES"]["value"]
        for name in ("ES", "PS", "NS"):
            cell = row["cells"][name]
            assert cell["low"] <= cell["value"] <= cell["high"]
        assert {"S", "GE", "cola.mcc"} <= set(row["cells"])
    with Ledger.open(tmp_path / "out" / "ledger") as ledger:
        assert {b for b in ledger.branches() if b.startswith("compare/")} == {
            "compare/memit", "compare/memit_protected", "compare/ft"
        }  # fmt: skip
        for branch in ("compare/memit", "compare/ft"):
            ledger.switch(branch)
            assert [len(entry.requests) for entry in ledger.log()[:-1]] == [4, 4]
    out = tmp_path / "out"
    assert (out / "comparison.png").stat().st_size > 5_000
    table = list(csv.DictReader((out / "comparison.csv").read_text().splitlines()))
    assert float(table[1]["ES"]) == rows[1]["cells"]["ES"]["value"]
    assert (out / "comparison.md").read_text().count("\n|") == 6
    assert r"\begin{tabular}" in (out / "comparison.tex").read_text()


def test_a_comparison_goes_on_where_it_stopped(tmp_path: Path, capsys: Any) -> None:
    config = write(tmp_path, methods={"memit": METHODS["memit"]})
    assert run(["compare", str(config), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["rows"]
    config = write(tmp_path)
    assert run(["compare", str(config)]) == 2  # the ledger holds entries already
    assert "--resume" in capsys.readouterr().err
    assert run(["compare", str(config), "--resume", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[1] == first[1]  # the seconds too: nothing was edited again
    assert len(rows) == 4


def test_texts_and_tasks_bring_the_columns_that_a_run_measures_at_every_step(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "wiki.txt").write_text("Venxa plays golf in the town by the river.\nBado sings on Sundays.\n" * 3)
    evals = {"generation": False, "resamples": 100, "perplexity_text": "wiki.txt"}
    config = write(tmp_path, methods={"memit": METHODS["memit"]}, evals=evals, every_step=True)
    assert run(["compare", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    unedited, memit = (row["cells"] for row in found["rows"])
    assert unedited["KL"]["value"] == 0 < memit["KL"]["value"]
    steps = json.loads((tmp_path / "out" / "memit" / "summary.json").read_text())["steps"]
    assert memit["KL"]["value"] == pytest.approx(steps[-1]["drift"]["kl"], rel=1e-6)
    assert memit["perplexity"]["value"] == pytest.approx(steps[-1]["drift"]["perplexity"], rel=1e-6)
    cell, task = memit["cola.f1_weighted"], steps[-1]["tasks"]["cola"]
    assert cell["value"] == task["f1_weighted"]
    assert cell["low"] - unedited["cola.f1_weighted"]["value"] == pytest.approx(task["f1_weighted_ci_low"])
    assert "on wiki.txt" in found["notes"]["perplexity, KL"]
    table = list(csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines()))
    assert float(table[1]["KL"]) == memit["KL"]["value"]
    assert f"{memit['KL']['value']:.5f}" in (tmp_path / "out" / "comparison.md").read_text()
    # With another text the row is another one, though the file is called the same.
    (tmp_path / "wiki.txt").write_text("Something else altogether was said in the town.\n" * 3)
    assert run(["compare", str(config), "--resume", "--json"]) == 0
    other = json.loads(capsys.readouterr().out)["rows"][1]["cells"]
    assert other["perplexity"]["value"] != memit["perplexity"]["value"]
    assert other["ES"] == memit["ES"]


def test_a_text_is_refused_where_every_batch_is_edited_alone(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "wiki.txt").write_text("Venxa plays golf.")
    evals = {"generation": False, "perplexity_text": "wiki.txt"}
    assert run(["compare", str(write(tmp_path, independent=True, tasks={}, evals=evals))]) == 2
    assert "evals.perplexity_text" in capsys.readouterr().err


def test_a_method_that_breaks_off_is_scored_where_it_stopped_and_says_so(tmp_path: Path, capsys: Any) -> None:
    diverging = {"method": "ft", "settings": {"layers": [1], "learning_rate": 1e30}}
    config = write(tmp_path, methods={"wild": diverging, "memit": METHODS["memit"]}, tasks={})
    assert run(["compare", str(config), "--json"]) == 0
    _, wild, memit = json.loads(capsys.readouterr().out)["rows"]
    assert "broke off" in wild["note"]
    assert "learning_rate" in wild["note"]
    assert memit["note"] == ""
    assert memit["cells"]["ES"]["value"] > wild["cells"]["ES"]["value"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"methods": {}}, "methods"),
        ({"methods": {"memit": {"layers": [1]}}}, "layers"),
        ({"methods": {"memmit": {}}}, "did you mean 'memit'"),
        ({"methods": {"memit": {"settings": {"layers": [1], "stepps": 3}}}}, "stepps"),
        ({"methods": {"a|b": {"method": "memit"}}}, "a|b"),
        ({"method": "memit"}, "'method'"),
        ({"every_step": "sometimes"}, "every_step"),
    ],
)
def test_a_wrong_comparison_is_refused_by_name_and_nothing_is_written(
    fields: dict[str, Any], named: str, tmp_path: Path, capsys: Any
) -> None:
    assert run(["compare", str(write(tmp_path, **fields))]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


ROWS = [
    ComparisonRow("unedited", {"ES": Cell(0.0, 0.0, 3.7), "cola.mcc": Cell(0.8)}),
    ComparisonRow("a_b & c", {"ES": Cell(99.5, 97.2, 100.0), "cola.mcc": Cell(0.75, 0.7, 0.8)}, 0.5, "broke off: x"),
]


def test_tables_hold_the_values_their_intervals_and_the_notes() -> None:
    text = markdown(ROWS)
    assert "| a_b & c | 99.5 [97.2, 100.0] | 0.750 [0.700, 0.800] | 0.50 |" in text
    assert "a_b & c: broke off: x" in text
    assert r"a\_b \& c & $99.5_{\pm 1.4}$ & $0.750_{\pm 0.050}$ & 0.50 \\" in latex(ROWS)
    table = list(csv.DictReader(csv_text(ROWS).splitlines()))
    assert table[1]["ES_low"] == "97.2"
    assert table[0]["cola.mcc_low"] == ""


def test_rows_survive_json() -> None:
    assert [ComparisonRow.from_dict(json.loads(json.dumps(row.to_dict()))) for row in ROWS] == ROWS


def test_a_finished_row_is_scored_again_for_other_facts_of_the_same_number(tmp_path: Path, capsys: Any) -> None:
    config = write(tmp_path, methods={"ft": METHODS["ft"]}, tasks={}, evals={"generation": False, "answer_tokens": 1})
    assert run(["compare", str(config), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["rows"]
    facts = json.loads((tmp_path / "facts.json").read_text())
    for fact in facts:  # the edits are the same, what they are asked by is not
        fact["paraphrase_prompts"] = fact["neighborhood_prompts"][:1]
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    assert run(["compare", str(config), "--json", "--resume"]) == 0
    resumed = json.loads(capsys.readouterr().out)["rows"]
    change = yaml.safe_load(config.read_text()) | {"out": "fresh"}
    config.write_text(yaml.safe_dump(change, sort_keys=False))
    assert run(["compare", str(config), "--json"]) == 0
    fresh = json.loads(capsys.readouterr().out)["rows"]
    assert resumed[1]["cells"] == fresh[1]["cells"]
    assert resumed[1]["cells"]["PS"] != first[1]["cells"]["PS"]
