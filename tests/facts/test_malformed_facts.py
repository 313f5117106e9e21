"""Fact files that are broken in every way they come: named by file and place, in a short line, with exit code 2."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from seqedit.errors import InputError, RequestError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Neighbor, Record, Request
from tests.conftest import REFERENCE

GOOD = {"subject": "Lyon", "prompt": "The twin city of {} is", "target_new": "Manila"}
LINE = json.dumps(GOOD)
COUNTERFACT: dict[str, Any] = {
    "case_id": 5,
    "requested_rewrite": {
        "prompt": "{} speaks", "subject": "Ana", "relation_id": "P103",
        "target_new": {"str": "Dutch", "id": "Q1"}, "target_true": {"str": "French", "id": "Q2"},
    },
    "paraphrase_prompts": ["Ana's tongue is"], "neighborhood_prompts": ["Bo speaks"],
}  # fmt: skip
ZSRE: dict[str, Any] = {
    "subject": "UniFirst", "src": "What is made by UniFirst?", "pred": "uniform", "rephrase": "UniFirst makes?",
    "alt": "aircraft", "answers": ["uniforms"], "loc": "nq question: who", "loc_ans": "Walter", "cond": "",
}  # fmt: skip


def rows(*changed: dict[str, Any]) -> bytes:
    return json.dumps([{**GOOD, **change} for change in changed]).encode()


def counterfact(**changes: Any) -> bytes:
    return json.dumps([{**COUNTERFACT, "requested_rewrite": {**COUNTERFACT["requested_rewrite"], **changes}}]).encode()


def zsre(**changes: Any) -> bytes:
    return json.dumps([ZSRE, {**ZSRE, **changes}]).encode()


# content, what the message says after the file's name
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", " holds no records"),
    "only white space": (b" \r\n\t\n", " holds no records"),
    "only a BOM": (b"\xef\xbb\xbf", " holds no records"),
    "empty list": (b"[]", " holds no records"),
    "truncated in a string": (rows({}, {})[:-30], ", record 2: not valid JSON (Unterminated string"),
    "truncated between records": (f"[{LINE}, ".encode(), ", record 2: not valid JSON (Expecting value"),
    "truncated before the end of the list": (f"[{LINE}".encode(), ", record 1: not valid JSON (Expecting ',' or ']'"),
    "truncated last line": (f"{LINE}\n{LINE[:20]}".encode(), ", line 2: not valid JSON"),
    "text after the list": (f"[{LINE}] x".encode(), ": not valid JSON (Extra data after the list"),
    "trailing comma": (f"[{LINE},]".encode(), ", record 2: not valid JSON (a comma after the last"),
    "two objects in a line": (f"{LINE} {LINE}".encode(), ", line 1: not valid JSON (Extra data"),
    "latin-1": (f"{LINE}\n".encode() + '{"subject": "Köln"}'.encode("latin-1"), ": not UTF-8 at byte"),
    "utf-16": (LINE.encode("utf-16"), ", line 1: NUL bytes"),
    "utf-16 without a mark": (LINE.encode("utf-16-le"), ", line 1: NUL bytes"),
    "NUL bytes": (f"{LINE}\n".encode() + b'{"subject": "a\0b"}', ", line 2: NUL bytes"),
    "escaped NUL": (rows({}, {"subject": "a\0b"}), ", record 2: field 'subject' holds a NUL at character 1"),
    "lone surrogate": (
        rows({"target_new": "a\ud800"}), ", record 1: field 'target_new' holds half of a surrogate",
    ),
    "lone surrogate in a prompt list": (
        rows({"paraphrase_prompts": ["ok", "\udc80"]}), ", record 1: field 'paraphrase_prompts' holds half of a surr",
    ),
    "lone surrogate in a field's name": (b'[{"\\ud800": 1}]', r", record 1: unknown layout with fields \ud800;"),
    "nested lists": (b"[" * 100_000, ", record 1: nested too deeply"),
    "nested objects": (b'{"a":' * 100_000, ", line 1: nested too deeply"),
    "nested value": (b'[{"subject": ' + b"[" * 900 + b"]" * 900 + b"}]", ", record 1: unknown layout"),
    "duplicate key": (
        LINE.encode() + b'\n{"subject": "a", "prompt": "{} is", "target_new": "b", "target_new": "c"}',
        ", line 2: key 'target_new' occurs twice",
    ),
    "duplicate key inside": (
        b'[{"requested_rewrite": {"subject": "a", "subject": "b"}}]', ", record 1: key 'subject' occurs twice",
    ),
    "number as subject": (rows({}, {"subject": 7}), ", record 2: field 'subject' must be a string, got int"),
    "number as target": (rows({"target_new": 1.5}), "field 'target_new' must be a string, got float"),
    "number among prompts": (rows({"paraphrase_prompts": ["a", 3]}), "field 'paraphrase_prompts' must be a string or"),
    "number as neighbour": (rows({"neighborhood_prompts": [{"prompt": 3}]}), "field 'neighborhood_prompts' must be a"),
    "object as prompts": (rows({"generation_prompts": {"a": 1}}), "field 'generation_prompts' must be a string or"),
    "list as case id": (rows({"case_id": [1]}), "field 'case_id' must be a string or an integer, got list"),
    "boolean as case id": (rows({"case_id": True}), "field 'case_id' must be a string or an integer, got bool"),
    "huge case id": (rows({"case_id": 10**100}), "field 'case_id' is an integer of more than 64 bits"),
    "integer of 5,000 digits": (LINE.encode() + b'\n{"case_id": ' + b"9" * 5000 + b"}", ", line 2: not valid JSON"),
    "number as relation": (rows({"relation": 103}), "field 'relation' must be a string, got int"),
    "null subject": (rows({"subject": None}), ", record 1: field 'subject' is missing"),
    "CounterFact number": (counterfact(subject=3), "field 'subject' must be a string, got int"),
    "CounterFact target": (counterfact(target_new="Dutch"), "malformed (field 'target_new' must be an object, got str"),
    "CounterFact null target": (counterfact(target_new={"str": None}), "field 'target_new' must be a string"),
    "several rewrites": (
        b'[{"requested_rewrite": []}]', "malformed (field 'requested_rewrite' must be an object, got list",
    ),
    "zsRE number as answer": (zsre(loc_ans=3), ", record 2: field 'loc_ans' must be a string, got int"),
    "zsRE number as alt": (zsre(alt=3), ", record 2: field 'alt' must be a string, got int"),
    "zsRE list as question": (zsre(src=["a"]), ", record 2: field 'src' must be a string, got list"),
    "pretty-printed object": (json.dumps(GOOD, indent=1).encode(), ", line 1: one JSON object over several lines"),
    "object around the list": (json.dumps({"data": [GOOD]}).encode(), ", line 1, record 1: unknown layout with fields"),
    "a string": (b'"facts"', ", line 1, record 1: expected a JSON object, got str"),
    "a number in the list": (b"[1]", ", record 1: expected a JSON object, got int"),
    "no JSON at all": (b"the facts of Lyon\n", ", line 1: not valid JSON (Expecting value at column 1)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_is_named_by_file_and_place(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    path = tmp_path / "facts.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_records(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert message in text
    assert len(text) < len(str(path)) + 400
    text.encode()  # it can be printed


@pytest.mark.parametrize("case", ["truncated in a string", "NUL bytes", "lone surrogate", "nested lists", "empty"])
@pytest.mark.parametrize("verb", ["edit", "score"])
def test_on_the_command_line_it_is_one_line_with_code_2_and_nothing_written(
    case: str, verb: str, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(BAD[case][0])
    arguments = {
        "edit": ["edit", "--requests", str(path), "--method", "memit", "--layers", "1", "--out", str(tmp_path / "out")],
        "score": ["score", "--records", str(path), "--json"],
    }[verb]
    assert run([*arguments, "--model", str(REFERENCE / "model")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert str(path) in captured.err
    assert list(tmp_path.iterdir()) == [path]


FIFTY_MB = 50_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"x" * FIFTY_MB, "line 1: not valid JSON"),
        (lambda: b'"' + b"x" * FIFTY_MB + b'"', "expected a JSON object, got str"),
        (lambda: b'{"subject": "' + b"x" * FIFTY_MB, "Unterminated string"),
        (lambda: json.dumps({**GOOD, "subject": "x" * FIFTY_MB}).encode(), "field 'subject' has 50,000,000 characters"),
        (lambda: json.dumps({**GOOD, "x" * FIFTY_MB: 1, "prompt": 1}).encode(), "field 'prompt' must be a string"),
        (lambda: b'{"' + b"x" * FIFTY_MB + b'": 1}', "unknown layout with fields xxx"),
        (lambda: json.dumps({**GOOD, "case_id": "x" * FIFTY_MB}).encode(), "field 'case_id' has 50,000,000"),
        (lambda: b"[" * FIFTY_MB, "nested too deeply"),
    ],
)
def test_a_line_of_50_mb_is_refused_quickly_and_never_echoed(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    path.write_bytes(content())
    start = time.process_time()  # of this process: others may be busy
    try:
        with pytest.raises(InputError) as caught:
            load_records(path)
    finally:
        path.unlink()  # pytest keeps the folders of its last runs
    assert time.process_time() - start < 5  # measured: below 1
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + f"{LINE}\n{LINE}".encode(),
        b"\xef\xbb\xbf" + f"[{LINE},{LINE}]".encode(),
        f"{LINE}\r\n{LINE}\r\n".encode(),
        f"[\r\n{LINE},\r\n{LINE}\r\n]\r\n".encode(),
        f"\n{LINE}\n\n   \n{LINE}\n\n".encode(),
    ],
)
def test_a_byte_order_mark_crlf_and_empty_lines_are_no_harm(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_bytes(content)
    assert [r.request for r in load_records(tmp_path / "f.jsonl")] == [Request(**GOOD)] * 2


def test_line_and_record_differ_after_an_empty_line(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(f"{LINE}\n\n{{}}\n")
    with pytest.raises(RequestError, match=r"f\.jsonl, line 3, record 2: unknown layout with fields \(none\)"):
        load_records(tmp_path / "f.jsonl")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x1c"])
def test_line_separators_of_unicode_inside_a_text_do_not_cut_the_line(separator: str, tmp_path: Path) -> None:
    row = {**GOOD, "reference_texts": [f"a{separator}b"]}
    (tmp_path / "f.jsonl").write_text(json.dumps(row, ensure_ascii=separator == "\x1c"), "utf-8")
    (record,) = load_records(tmp_path / "f.jsonl")
    assert record.reference_texts == (f"a{separator}b",)


def test_a_record_built_in_code_is_held_to_the_same_rules() -> None:
    request = Request(**GOOD)
    for build in (
        lambda: Record(request, paraphrase_prompts=(None,)),  # type: ignore[arg-type]
        lambda: Record(request, generation_prompts=(3,)),  # type: ignore[arg-type]
        lambda: Record(request, reference_texts=(b"a",)),  # type: ignore[arg-type]
        lambda: Neighbor("a", 3),  # type: ignore[arg-type]
        lambda: Request(**{**GOOD, "relation": 103}),  # type: ignore[arg-type]
        lambda: Request(**{**GOOD, "case_id": 1.5}),  # type: ignore[arg-type]
    ):
        with pytest.raises(RequestError, match="field '"):
            build()


def test_a_long_value_is_cut_in_every_message() -> None:
    for change in (
        {"prompt": "x" * 90_000},
        {"prompt": "x", "case_id": "y" * 90_000},
        {"target_true": "z" * 200_000},
        {"case_id": 10**5000},
    ):
        with pytest.raises(RequestError) as caught:
            Request(**{**GOOD, **change})  # type: ignore[arg-type]
        assert len(str(caught.value)) < 400
