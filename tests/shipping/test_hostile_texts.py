"""Texts that others wrote, in what is read as a page or opened as a table: cards, comparisons, reports, CSV files."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.report.comparison import Cell, ComparisonRow, csv_text, latex, markdown
from evals.report.report import write_report
from evals.report.spreadsheet import cell
from evals.report.table import tables_of, write_tables
from seqedit.adapters.card import escape
from seqedit.adapters.files import model_card
from seqedit.comparing.compare import write_comparison
from seqedit.facts.requests import Request

LIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
TEXT = "$a_{\x1b[2J\x07\x9b31m\u202e\u2066 <img src=x onerror=alert(1)> [x](javascript:alert(1))`</td>`|\n# forged\n- x"
FORMULAS = ["=1+1", "@SUM(1)", "+1", "-2+3", "\t=1", "\r=1", " =1", "\uff1d1", 'a\r=cmd|" /C calc"!A0', "a;=1", "a\n=1"]


def check_markdown(text: str) -> None:
    assert not LIVE.search(text)
    assert not re.search(r"(?<!\\)<", text), "HTML"
    assert not re.search(r"(?<!\\)\]\(", text), "a link"
    assert not re.search(r"^\s*(# forged|- x)", text, re.M), "a line of its own"
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (0, 4, 5) for line in text.splitlines()), "a cell of its own"


def test_a_card_shows_hostile_texts_as_texts() -> None:
    card = model_card("me/base" + TEXT, {"name": TEXT}, [Request(TEXT, "{} is" + TEXT, TEXT)])
    head = card.split("---\n")[1]
    assert yaml.safe_load(head)["base_model"] == "me/base" + TEXT
    check_markdown(card.split("---\n", 2)[2])
    assert "\\\\x1b" in card  # it can still be seen


def test_a_comparison_shows_hostile_texts_as_texts(tmp_path: Path) -> None:
    rows = [ComparisonRow(TEXT, {"ES": Cell(1.0), f"{TEXT}.acc": Cell(0.5)}, 1.0, TEXT)]
    check_markdown(markdown(rows))
    assert not LIVE.search(latex(rows))
    short = [ComparisonRow("$a_{\x1b\u202e<b>|\n- x", {"ES": Cell(1.0)})]  # it is an axis of the plot too
    write_comparison(tmp_path, short, TEXT)
    check_markdown((tmp_path / "comparison.md").read_text("utf-8"))


@pytest.mark.parametrize("text", ["- a", "+ a", "1. a", "2) a", "= a", "-"])
def test_a_text_at_the_start_of_a_line_begins_no_list_and_underlines_no_heading(text: str) -> None:
    assert re.match(r"\d*\\", escape(text))


def test_a_report_shows_what_would_turn_writing_around(tmp_path: Path) -> None:
    page = write_report(summary(TEXT), tmp_path).read_text("utf-8")
    assert not LIVE.search(page)
    assert "\\u202e" in page


def summary(text: str) -> dict[str, Any]:
    fact = {"subject": text, "prompt": text, "target_new": text, "target_true": text, "before": text, "after": text}
    step = {
        "step": 1, "entry": "a" * 64, "operation": "edit", "method": text, "message": text, "time": "2026-01-01",
        "requests": 1, "active": 1, "ES": -1.5, "facts": [fact], "tasks": {text: {"acc": 0.5, "change": -0.1}},
        "gates": [{"gate": text, "value": -1.0, "bound": 0.0, "tripped": False}],
        "drift": {"modules": {text: {"norm": 1.0}}},
    }  # fmt: skip
    return {"method": {"name": text}, "baseline": {text: {"acc": 0.6}}, "steps": [step]}


def live_cells(text: str) -> list[str]:
    """Cells that a spreadsheet would calculate, whatever it takes for the end of a row or cell."""
    found = []
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(text.replace("\r", "\n"), newline=""), delimiter=delimiter):
            found += [c for c in row if re.match(r"[\s\0]*[=+\-@\uff1d\uff0b\uff0d\uff20]", c) and not number(c)]
    return found


def number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text) is not None


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_of_the_csv_files_is_a_formula_and_numbers_stay_numbers(formula: str, tmp_path: Path) -> None:
    write_tables(tables_of({formula: summary(formula)}), tmp_path)
    texts = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.csv")}
    rows = [ComparisonRow(formula, {"ES": Cell(-1.5), f"{formula}.acc": Cell(0.5)}, 1.0, formula)]
    texts["comparison"] = csv_text(rows)
    assert len(texts) >= 6
    for name, text in texts.items():
        assert live_cells(text) == [], name
    steps = list(csv.DictReader(texts["steps.csv"].splitlines(keepends=True)))[-1]
    assert steps["ES"] == "-1.5"


@pytest.mark.parametrize("value", [-1, -1.5, None, True, "a - b", "plain", "a=b"])
def test_what_is_no_formula_stays_as_it_is(value: Any) -> None:
    assert cell(value) == value
