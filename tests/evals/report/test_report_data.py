"""The raw data beside a report: the same table in every format, with all its digits."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from evals.report.report import write_report
from evals.report.table import TABLES, tables_of, write_tables
from tests.evals.report.report_data import HOSTILE, synthetic_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    runs = {"emmet": synthetic_run(12, 3), "memit": synthetic_run(12, 3, seed=1, hostile=True)}
    assert set(write_tables(tables_of(runs), folder)) == set(TABLES)
    return folder


@pytest.mark.parametrize("table", TABLES)
def test_csv_json_and_parquet_hold_the_same(folder: Path, table: str) -> None:
    import pyarrow.parquet

    rows = json.loads((folder / f"{table}.json").read_text("utf-8"))
    assert pyarrow.parquet.read_table(folder / f"{table}.parquet").to_pylist() == rows
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        text = list(csv.DictReader(file))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == text


def test_rows_are_those_of_the_runs(folder: Path) -> None:
    def read(table: str) -> list[dict[str, object]]:
        return [r for r in json.loads((folder / f"{table}.json").read_text("utf-8")) if r["run"] == "memit"]

    run = synthetic_run(12, 3, seed=1, hostile=True)
    assert [row["step"] for row in read("steps")] == list(range(13))  # 0 is the unedited model
    third = read("steps")[3]
    assert third["ES"] == run["steps"][2]["ES"]
    assert third["earlier_ES"] == run["steps"][2]["earlier"]["ES"]
    assert third["seconds_edit"] == 5.0
    known = [(t, i) for t, row in enumerate(run["forgetting"]) for i, v in enumerate(row) if v is not None]
    assert [(row["step"], row["edited_at"], row["age"]) for row in read("forgetting")] == [
        (t + 1, i + 1, t - i) for t, i in known
    ]
    assert len(read("facts")) == sum(len(step["facts"]) for step in run["steps"])
    assert HOSTILE in str(read("facts")[0]["subject"])
    assert {row["previous_change"] for row in read("tasks") if row["step"]} == {0.001}
    assert len(read("drift_modules")) == 12 * 3


def test_a_table_that_became_empty_leaves_no_file_of_the_earlier_report(tmp_path: Path) -> None:
    write_tables(tables_of({"a": synthetic_run(2, 2)}), tmp_path)
    assert (tmp_path / "facts.csv").exists()
    written = write_tables(tables_of({"a": synthetic_run(2, 0)}), tmp_path)
    assert "facts" not in written
    assert not list(tmp_path.glob("facts.*"))


def test_whole_numbers_and_fractions_share_a_column(tmp_path: Path) -> None:
    import pyarrow.parquet

    write_tables({"steps": [{"run": "a", "ES": 100}, {"run": "a", "ES": 99.5}, {"run": "a", "ES": None}]}, tmp_path)
    assert pyarrow.parquet.read_table(tmp_path / "steps.parquet")["ES"].to_pylist() == [100.0, 99.5, None]


def test_the_diagnosis_of_every_step_and_its_warnings_are_on_the_page_and_in_the_data(tmp_path: Path) -> None:
    run = synthetic_run(2, 2)
    sound = {"requests": 2, "converged": 2, "reached": 1, "written": {"a": 0.9, "b": 0.625}, "condition": {"a": 3.5},
             "size": {"a": 0.0125}, "load": {"a": 0.007}, "faults": []}  # fmt: skip
    fault = {"text": "only 5 % of the residual is written; try --set second_moment_weight=<b>9</b>"}
    trained = {"requests": 2, "converged": None, "reached": None, "written": {}, "condition": {}, "size": {"a": 0.5},
               "load": {"a": 0.1}, "faults": [fault]}  # fmt: skip
    for step, found in zip(run["steps"], (sound, trained), strict=True):
        step["diagnosis"] = found
    page = write_report(run, tmp_path).read_text("utf-8")
    table = page.split("<summary>Diagnosis</summary>")[1].split("</table>")[0]
    for shown in ("62.5", "1.25", "0.0070", "50.00", "warning", "second_moment_weight=&lt;b&gt;9"):
        assert shown in table
    rows = tables_of({"x": run})["steps"]
    assert [row["diagnosis_written"] for row in rows if row["step"]] == [0.625, None]
    assert [row["diagnosis_size"] for row in rows if row["step"]] == [0.0125, 0.5]
