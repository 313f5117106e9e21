"""Files with records that cannot be used: all are named at once, and skipping them is counted, never silent."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from seqedit.errors import RequestError
from seqedit.facts.loading import load_records, read_facts
from seqedit.library.inputs import facts_read
from tests.facts.test_malformed_facts import COUNTERFACT, GOOD, ZSRE

EASYEDIT: dict[str, Any] = {
    "case_id": 0, "prompt": "The tongue of Ana is", "target_new": "English", "subject": "Ana",
    "ground_truth": "French", "rephrase_prompt": "Ana speaks", "locality_prompt": "Bo speaks",
    "locality_ground_truth": "French",
}  # fmt: skip


def file(tmp_path: Path, *rows: Any) -> Path:
    (tmp_path / "facts.json").write_text(json.dumps(rows), "utf-8")
    return tmp_path / "facts.json"


@pytest.fixture
def zsre(tmp_path: Path) -> Path:
    """Thirty records, of which five cannot be used by MEND's convention: three have no ``alt``."""
    rows = [{**ZSRE, "case_id": 100 + i} for i in range(30)]
    for i in (3, 7):
        rows[i]["alt"] = ""
    rows[9]["alt"] = " \t"
    rows[11]["subject"], rows[12]["subject"] = "Zork", "Mork"
    return file(tmp_path, *rows)


def test_every_unusable_record_is_named_with_its_reason_in_one_line(zsre: Path) -> None:
    with pytest.raises(RequestError) as caught:
        load_records(zsre)
    text = str(caught.value)
    assert text.startswith(f"{zsre}: 5 of 30 records cannot be used: ")
    assert "field 'alt' is empty (records 4 (id 103), 8 (id 107), 10 (id 109))" in text
    assert "field 'src': the subject does not occur (records 12 (id 111), 13 (id 112))" in text
    assert "target_new" not in text
    assert "--skip-unusable" in text
    assert "goes on with the other 25" in text
    assert "\n" not in text


def test_another_convention_is_offered_where_it_reads_them(zsre: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--zsre memit .*reads 3 of them"):
        load_records(zsre)
    with pytest.raises(RequestError, match=r"field 'alt' is missing; --zsre memit .*reads it$"):
        load_records(file(tmp_path, {**ZSRE, "alt": None}))
    with pytest.raises(RequestError) as caught:
        load_records(file(tmp_path, ZSRE, {**ZSRE, "answers": []}), zsre="memit")
    assert "--zsre" not in str(caught.value)


def test_skipping_keeps_the_rest_and_counts_what_was_left_out(zsre: Path, caplog: Any) -> None:
    found = read_facts(zsre, skip_unusable=True)
    assert len(found.records) == 25
    assert found.numbers[:5] == (1, 2, 3, 5, 6)
    assert found.skipped is not None
    told = found.skipped.to_dict()
    assert (told["source"], told["skipped"], told["of"]) == (str(zsre), 5, 30)
    assert told["reasons"]["field 'alt' is empty"] == [
        {"record": 4, "case_id": 103}, {"record": 8, "case_id": 107}, {"record": 10, "case_id": 109},
    ]  # fmt: skip
    assert json.loads(json.dumps(told)) == told
    assert str(found.skipped).startswith(f"{zsre}: 5 of 30 records left out as unusable: field 'alt' is empty (records")
    with caplog.at_level(logging.WARNING, "seqedit"):
        assert len(load_records(zsre, skip_unusable=True)) == 25
    assert "5 of 30 records left out" in caplog.text


def test_nothing_is_told_of_a_whole_file(tmp_path: Path, caplog: Any) -> None:
    found = read_facts(file(tmp_path, ZSRE, ZSRE), skip_unusable=True)
    assert (len(found.records), found.skipped, found.numbers) == (2, None, (1, 2))
    assert caplog.text == ""


def test_a_file_of_which_nothing_can_be_used_is_an_error_however_it_is_read(tmp_path: Path) -> None:
    path = file(tmp_path, {**ZSRE, "alt": ""}, {**ZSRE, "subject": "Zork"})
    for skip in (False, True):
        with pytest.raises(RequestError, match=r"none of its 2 records can be used: field 'alt' is empty .record 1"):
            load_records(path, skip_unusable=skip)


def test_a_long_list_is_cut_and_its_count_is_not(tmp_path: Path) -> None:
    wrong: tuple[Any, ...] = (1, None, [], {}, 1.5, True)
    rows: list[dict[str, Any]] = [{**GOOD, "target_new": ""} for _ in range(500)]
    rows += [GOOD, *({**GOOD, "subject": value} for value in wrong)]
    with pytest.raises(RequestError) as caught:
        load_records(file(tmp_path, *rows))
    text = str(caught.value)
    assert "506 of 507 records cannot be used: field 'target_new' is empty (records 1, 2, 3" in text
    assert "7, 8 and 492 more)" in text
    assert "for 2 other reasons" in text
    assert len(text) < 900


def test_facts_in_memory_are_told_and_skipped_alike() -> None:
    rows = [GOOD, {**GOOD, "target_new": ""}, {**GOOD, "subject": 3}]
    with pytest.raises(RequestError, match=r"2 of 3 records cannot be used: .*'target_new' is empty .record 2.*"):
        facts_read(rows)
    found = facts_read(rows, skip_unusable=True)
    assert (len(found.records), found.numbers) == (1, (1,))
    assert found.skipped is not None
    assert len(found.skipped.records) == 2
    with pytest.raises(RequestError, match="fact 1: field 'target_new' is empty"):
        facts_read([{**GOOD, "target_new": ""}], skip_unusable=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ZSRE, "alt": 3}, "field 'alt' must be a string, got int"),
        ({**ZSRE, "alt": ["a"]}, "field 'alt' must be a string, got list"),
        ({**ZSRE, "src": " "}, "field 'src' is empty"),
        ({**ZSRE, "src": "{} and {}"}, r"field 'src' must hold exactly one \{\}"),
        ({**ZSRE, "answers": [], "pred": 4}, "field 'pred' must be a string, got int"),
        ({**EASYEDIT, "ground_truth": 3}, "field 'ground_truth' must be a string, got int"),
        ({**EASYEDIT, "target_new": [["English"]]}, "field 'target_new' must be a string, got list"),
        ({**EASYEDIT, "relation_id": 3}, "field 'relation_id' must be a string, got int"),
        ({**EASYEDIT, "subject": "  "}, "field 'subject' is empty"),
        ({**GOOD, "target_new": "\u2003"}, "field 'target_new' is empty"),
        ({**COUNTERFACT, "requested_rewrite": {**COUNTERFACT["requested_rewrite"], "relation_id": 3}},
         "field 'relation_id' must be a string, got int"),
        ({**COUNTERFACT, "requested_rewrite": {**COUNTERFACT["requested_rewrite"], "prompt": "Ana speaks"}},
         r"field 'prompt' must hold exactly one \{\} for the subject, found 0"),
    ],
)  # fmt: skip
def test_the_field_is_named_as_the_file_has_it(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"record 1: {message}"):
        load_records(file(tmp_path, row))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("In JSON, {} is an empty object and Lyon speaks", r"ambiguous, with \{\} and the subject 'Lyon'"),
        ("{}'s twin, Lyon, is", "ambiguous"),
        ("{} and {} are", r"exactly one \{\} for the subject, found 2"),
        ("The twin of {subject} is", r"\{subject\} is no place for the subject"),
        ("The twin of {0} is", r"\{0\} is no place for the subject"),
        ("The twin of {:s} is", r"\{:s\} is no place"),
        ("The twin of {0!r} is", r"\{0!r\} is no place"),
        ("The twin of {{}} is", r"\{\{\}\} is no place"),
        ("The {} of {subject} is", r"\{subject\} is no place"),
        ("Lyon, {subject}, is", r"\{subject\} is no place"),
        ("The twin of [X] is", r"\[X\] is no place"),
        ("The twin of it is", "the subject 'Lyon' does not occur"),
        ("Lyon or Lyon is", "the subject 'Lyon' occurs 2 times"),
    ],
)
@pytest.mark.parametrize("layout", ["plain", "EasyEdit", "zsRE"])
def test_a_prompt_whose_subject_has_no_plain_place_is_refused(
    prompt: str, message: str, layout: str, tmp_path: Path
) -> None:
    name = "src" if layout == "zsRE" else "prompt"
    row = {"plain": GOOD, "EasyEdit": EASYEDIT, "zsRE": ZSRE}[layout] | {"subject": "Lyon", name: prompt}
    with pytest.raises(RequestError, match=f"record 1: field '{name}'.*{message}"):
        load_records(file(tmp_path, row))


@pytest.mark.parametrize(
    ("subject", "prompt", "template"),
    [
        ("Lyon", "{} Lyonnais is", "{} Lyonnais is"),  # a part of another word is not the subject
        ("I", "In India, {} is", "In India, {} is"),
        ("Lyon", "The set {a, b} of Lyon is", "The set {a, b} of {} is"),
        ("Lyon", r"In LaTeX \frac{x}{y} of Lyon is", r"In LaTeX \frac{x}{y} of {} is"),
        ("C{}", "C{} is", "{} is"),  # braces of the subject's own
        ("里昂", "{}的首都是", "{}的首都是"),
    ],
)
def test_a_prompt_whose_subject_has_a_plain_place_is_read(
    subject: str, prompt: str, template: str, tmp_path: Path
) -> None:
    (record,) = load_records(file(tmp_path, {**GOOD, "subject": subject, "prompt": prompt}))
    assert record.request.prompt == template


def test_a_subject_beside_its_slot_is_found_in_a_script_without_spaces(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="ambiguous"):
        load_records(file(tmp_path, {**GOOD, "subject": "里昂", "prompt": "{}和里昂的首都是"}))
