"""Layouts that are registered beside the published ones."""

from __future__ import annotations

import pytest

from seqedit.errors import RequestError
from seqedit.facts import layouts
from seqedit.facts.fields import Row
from seqedit.facts.layouts import register, to_record
from seqedit.facts.requests import Record, Request


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_LAYOUTS", layouts._LAYOUTS)


def triples(row: Row) -> Record:
    subject, relation, value = row["triple"]
    return Record(Request(subject, "{} is", value, relation=relation))


def test_a_registered_layout_reads_rows_with_its_field_also_where_they_have_plain_fields() -> None:
    assert register("triple")(triples) is triples
    row = {"triple": ["Lyon", "twin", "Manila"], "prompt": "x", "target_new": "y"}
    assert to_record(row, "row 1").request.target_new == "Manila"


def test_a_published_layout_keeps_its_rows() -> None:
    register("triple")(triples)
    row = {
        "triple": ["Lyon", "twin", "Manila"],
        "src": "Who is Ann?",
        "subject": "Ann",
        "alt": "Bob",
        "answers": ["Cy"],
    }
    assert to_record(row, "row 1").request.target_new == "Bob"


@pytest.mark.parametrize("field", ["triple", "src", "prompt"])
def test_a_field_tells_one_layout_only(field: str) -> None:
    register("triple")(triples)
    with pytest.raises(ValueError, match=f"'{field}' is registered already"):
        register(field)(triples)


def test_what_is_registered_is_named_where_no_layout_fits() -> None:
    with pytest.raises(RequestError, match=r"target_new\)$"):
        to_record({"x": 1}, "row 1")
    register("triple")(triples)
    with pytest.raises(RequestError, match="and those with field triple"):
        to_record({"x": 1}, "row 1")
