"""A run's files of facts: lists, patterns, what is said of a file, and which files a history has not seen yet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.history.entries import Entry
from seqedit.adapters.base import BaseModel
from seqedit.errors import InputError, RequestError
from seqedit.facts.arrow import from_dataset, to_dataset
from seqedit.facts.files import FactFile, fact_files
from seqedit.facts.layouts import to_record
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record, Request
from seqedit.runs.facts import FactSet, new_sets

PLAIN = {"subject": "Rome", "prompt": "{} is the capital of", "target_new": "France"}
ORIGIN = {"date": "2032-01-05", "source": "the gazette", "note": "after the election"}
COUNTERFACT = {
    "case_id": 1,
    "requested_rewrite": {"subject": "Rome", "prompt": "{} is in", "target_new": {"str": "France"}},
}
ZSRE = {"subject": "Rome", "src": "Where is Rome?", "alt": "France", "answers": ["Italy"]}
EASYEDIT = {"subject": "Rome", "prompt": "Rome is in", "target_new": "France", "rephrase_prompt": "Where is Rome? In"}


def files(value: Any, folder: Path) -> list[FactFile]:
    found = fact_files(value, folder, lambda path: None if path is None else str(folder / path))
    assert found is not None
    return list(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("2032-02", "2032-01", "2032-10"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**PLAIN, "subject": name}) + "\n")
    return tmp_path


@pytest.mark.parametrize("row", [PLAIN, COUNTERFACT, ZSRE, EASYEDIT], ids=["plain", "counterfact", "zsre", "easyedit"])
def test_every_layout_may_say_where_a_fact_comes_from(row: dict[str, Any]) -> None:
    request = to_record({**row, **ORIGIN}, "here").request
    assert {name: getattr(request, name) for name in ORIGIN} == ORIGIN
    assert Request.from_dict(request.to_dict()) == request
    bare = to_record({**row, "date": "", "note": None}, "here").request
    assert bare == to_record(row, "here").request, "a blank field is none"
    assert "date" not in bare.to_dict(), "what says nothing leaves digests as they were"


def test_a_date_that_is_no_text_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="here: field 'date' must be a string, got int"):
        to_record({**PLAIN, "date": 2032}, "here")


def test_a_dataset_keeps_where_facts_come_from() -> None:
    records = [to_record({**PLAIN, **ORIGIN}, "here"), to_record(PLAIN, "here")]
    assert from_dataset(to_dataset(records)) == records


def test_a_pattern_gives_its_files_sorted_and_a_list_keeps_its_order(folder: Path) -> None:
    assert [file.name for file in files("*.jsonl", folder)] == ["2032-01.jsonl", "2032-02.jsonl", "2032-10.jsonl"]
    found = files(["2032-10.jsonl", {"file": "2032-0*.jsonl", "message": "Spring", "source": "registry"}], folder)
    assert [(file.name, file.title, file.source) for file in found] == [
        ("2032-10.jsonl", "2032-10", None), ("2032-01.jsonl", "Spring", "registry"),
        ("2032-02.jsonl", "Spring", "registry"),
    ]  # fmt: skip
    assert fact_files("2032-01.jsonl", folder, lambda path: path) is None, "one file is not several"
    (folder / "a[1].jsonl").write_text("")
    assert fact_files("a[1].jsonl", folder, lambda path: path) is None, "a file that is there is no pattern"
    assert files("none-*.jsonl", folder) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [(["2032-01.jsonl", "*.jsonl"], "names 2032-01.jsonl twice"), ([], "got"), (["none-*.jsonl"], "no file matches"),
     ([{"file": "2032-01.jsonl", "mesage": "x"}], "unknown field 'mesage'"),
     ([{"message": "x"}], "mapping with 'file'"),
     ([7], "got 7"), (7, "got 7")],
)  # fmt: skip
def test_what_names_no_files_is_refused(value: Any, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match="field 'facts'") as caught:
        files(value, folder)
    assert message in str(caught.value)


def test_a_files_own_date_is_that_of_its_facts_without_one() -> None:
    told = FactFile("x", "x", date="2032-01", note="by hand").told([Record(Request(**PLAIN, date="1999"))])
    assert (told[0].request.date, told[0].request.note) == ("1999", "by hand")


def a_set(path: Path) -> FactSet:
    file = FactFile(str(path), path.name)
    return FactSet(file, tuple(load_records(path)), file.record())


def an_entry(part: FactSet, *, requests: Any = None, file: Any = None) -> Entry:
    wanted = tuple(record.request for record in part.records) if requests is None else requests
    kept = part.recorded if file is None else file
    return Entry(BaseModel("m", "f" * 64), "edit", "2032-01-31T12:00:00Z", ("a" * 64,), "b" * 64, (), {}, wanted,
                 facts_file=kept)  # fmt: skip


def test_a_file_is_known_by_its_content_and_by_its_facts(folder: Path) -> None:
    january, february = a_set(folder / "2032-01.jsonl"), a_set(folder / "2032-02.jsonl")
    done = [an_entry(january)]
    new, said = new_sets([january, february], done)
    assert new == [february]
    assert said == [f"2032-01.jsonl: in the history already ({done[0].id[:12]})", "2032-02.jsonl: new, 1 facts"]
    renamed = replace(january, file=FactFile("other", "other.jsonl"))
    assert new_sets([renamed], done)[0] == []
    assert new_sets([january], [an_entry(january, file={})])[0] == [], "its facts were taught by another entry"
    new, said = new_sets([february, replace(february, file=FactFile("copy", "copy.jsonl"))], done)
    assert new == [february], "one content is edited once"
    assert said[1] == "copy.jsonl: the same content as 2032-02.jsonl"


def test_of_a_file_that_was_edited_in_part_the_rest_is_new(folder: Path) -> None:
    rows = [{**PLAIN, "subject": name} for name in "ABC"]
    (folder / "three.jsonl").write_text("\n".join(map(json.dumps, rows)))
    part = a_set(folder / "three.jsonl")
    new, said = new_sets([part], [an_entry(part, requests=(part.records[0].request,))])
    assert [record.request.subject for record in new[0].records] == ["B", "C"]
    assert said == ["three.jsonl: 2 of 3 facts are not in the history yet"]


def test_a_file_that_changed_since_it_was_edited_is_refused_by_name(folder: Path) -> None:
    before = a_set(folder / "2032-01.jsonl")
    (folder / "2032-01.jsonl").write_text(json.dumps(PLAIN))
    with pytest.raises(InputError, match=r"2032-01\.jsonl has changed since"):
        new_sets([a_set(folder / "2032-01.jsonl")], [an_entry(before)])
    # The same facts in another layout of the file are no change of what is taught.
    (folder / "2032-01.jsonl").write_text(json.dumps([{**PLAIN, "subject": "2032-01"}], indent=2))
    assert new_sets([a_set(folder / "2032-01.jsonl")], [an_entry(before)])[0] == []


def test_an_entry_keeps_its_file_and_one_without_stays_what_every_version_reads(folder: Path) -> None:
    part = a_set(folder / "2032-01.jsonl")
    entry = an_entry(part)
    assert Entry.from_content(entry.content) == entry
    assert Entry.from_content(entry.content).facts_file == part.recorded
    assert json.loads(entry.content)["format"] == 2
    bare = json.loads(an_entry(part, file={}).content)
    assert (bare["format"], "facts_file" in bare) == (1, False)
    with pytest.raises(InputError, match="facts_file"):
        an_entry(part, file={"name": "x"})
