"""Requests, batches and fact files: what is read, and how bad input is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.errors import InputError, RequestError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record, Request, check_batch

GOOD = {"subject": "Lyon", "prompt": "The twin city of {} is", "target_new": "Manila"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "no slot"}, r"exactly one \{\}"),
        ({"prompt": "{} and {}"}, r"exactly one \{\}.*found 2"),
        ({"target_new": "  "}, "'target_new' is empty"),
        ({"subject": ""}, "'subject' is empty"),
        ({"target_new": 3}, "'target_new' must be a string"),
    ],
)
def test_an_unusable_request_is_refused_by_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Request(**{**GOOD, **change})


def test_braces_in_subject_and_prompt_survive() -> None:
    assert Request("a{0}b", "is {} {x}?", "y").text == "is a{0}b {x}?"


def test_a_request_survives_the_way_to_json_and_back() -> None:
    request = Request("Lyon", "{} is", "x", target_true="y", relation="P1", case_id=7)
    assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    record = Record(request, ("a",), (), ("g",), ("r",))
    assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_batch_with_the_same_request_twice_is_refused() -> None:
    with pytest.raises(RequestError, match=r"duplicate requests 0 and 2.*'Lyon'"):
        check_batch([Request(**GOOD), Request("Paris", "{} is", "x"), Request(**GOOD)])


def test_a_batch_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(RequestError, match=r"contradictory requests 0 and 1.*'Lyon'.*'Manila' and 'Beirut'"):
        check_batch([Request(**GOOD), Request(**{**GOOD, "target_new": "Beirut"})])
    with pytest.raises(RequestError, match="contradictory"):  # one fact in two phrasings, told by its relation
        check_batch([Request("L", "{} a", "x", relation="P1"), Request("L", "{} b", "y", relation="P1")])


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(RequestError, match="no requests"):
        check_batch([])


def write(path: Path, rows: Any, lines: bool = False) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows), "utf-8")
    return path


def test_counterfact_layout_is_read(tmp_path: Path) -> None:
    row = {
        "case_id": 5,
        "requested_rewrite": {
            "prompt": "{} speaks", "subject": "Ana", "relation_id": "P103",
            "target_new": {"str": "Dutch", "id": "Q1"}, "target_true": {"str": "French", "id": "Q2"},
        },
        "paraphrase_prompts": ["Ana's tongue is"], "neighborhood_prompts": ["Bo speaks", "Cy speaks"],
        "attribute_prompts": ["x"], "generation_prompts": ["Ana lives"],
    }  # fmt: skip
    (record,) = load_records(write(tmp_path / "c.json", [row]))
    assert record.request == Request("Ana", "{} speaks", "Dutch", "French", "P103", 5)
    assert [n.prompt for n in record.neighborhood_prompts] == ["Bo speaks", "Cy speaks"]
    assert record.generation_prompts == ("Ana lives",)


def test_zsre_layout_is_read_with_the_locality_answer(tmp_path: Path) -> None:
    row = {
        "subject": "UniFirst", "src": "What is made by UniFirst?", "pred": "uniform", "rephrase": "UniFirst makes?",
        "alt": "aircraft", "answers": ["uniforms"], "loc": "nq question: who", "loc_ans": "Walter", "cond": "",
    }  # fmt: skip
    (record,) = load_records(write(tmp_path / "z.json", [row]))
    assert record.request.prompt == "What is made by {}?"
    assert (record.request.target_new, record.request.target_true) == ("aircraft", "uniforms")
    assert record.neighborhood_prompts[0].target_true == "Walter"


def test_easyedit_and_plain_layouts_are_read(tmp_path: Path) -> None:
    easy = {
        "case_id": 0, "prompt": "The tongue of Ana is", "target_new": "English", "subject": "Ana",
        "ground_truth": "French", "rephrase_prompt": "Ana speaks", "locality_prompt": "Bo speaks",
        "locality_ground_truth": "French",
    }  # fmt: skip
    (record,) = load_records(write(tmp_path / "e.json", [easy]))
    assert record.request.prompt == "The tongue of {} is"
    (plain, filled) = load_records(
        write(tmp_path / "p.jsonl", [GOOD, {**GOOD, "prompt": "The twin of Lyon is"}], lines=True)
    )
    assert plain.request == Request(**GOOD)
    assert filled.request.prompt == "The twin of {} is"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, {"subject": "x", "target_new": "y"}], "record 2: field 'prompt' is missing"),
        ([{**GOOD, "prompt": "nobody here"}], "record 1: field 'prompt': the subject 'Lyon' does not occur"),
        ([{**GOOD, "prompt": "Lyon and Lyon"}], "occurs 2 times"),
        ([{"foo": 1}], "record 1: unknown layout with fields foo"),
        (["text"], "record 1: expected a JSON object"),
        ([], "holds no records"),
        ([{"requested_rewrite": {"prompt": "{} a", "subject": "b"}}], "record 1: field 'target_new' is missing"),
        ([{"requested_rewrite": {"prompt": "{}", "subject": "b", "target_new": "c"}}], "record 1: malformed"),
    ],
)
def test_a_bad_record_is_named_by_number_and_field(rows: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_records(write(tmp_path / "f.json", rows))


def test_a_missing_file_broken_json_and_wrong_encoding_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*nowhere\.json"):
        load_records(tmp_path / "nowhere.json")
    (tmp_path / "b.jsonl").write_text(json.dumps(GOOD) + "\n{broken\n")
    with pytest.raises(InputError, match=r"b\.jsonl, line 2: not valid JSON"):
        load_records(tmp_path / "b.jsonl")
    (tmp_path / "l.json").write_bytes('[{"subject": "Köln"}]'.encode("latin-1"))
    with pytest.raises(InputError, match=r"l\.json: not UTF-8 at byte"):
        load_records(tmp_path / "l.json")


def test_real_files_are_read_whole(shared_data: Path) -> None:
    assert len(load_records(shared_data / "counterfact_2000.json")) == 2000
    assert len(load_records(shared_data / "zsre_500.json")) == 500
