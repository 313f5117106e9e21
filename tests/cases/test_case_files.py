"""Files of cases: other kinds are named, unusable cases told at once, and every documented spelling is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.cases.mquake import load_mquake
from seqedit.cases.ripple import load_ripple
from seqedit.errors import InputError, RequestError
from seqedit.facts.reading.unusable import Skipped
from tests.facts.test_malformed_facts import COUNTERFACT, GOOD, ZSRE

EDIT: dict[str, Any] = {
    "subject": "Mira", "target": "Velmora", "prompt": "The country of Mira is Velmora.", "subject_id": "Q1",
    "relation": "COUNTRY", "target_id": "Q2",
}  # fmt: skip
BEFORE = {"prompt": "The country of Mira is Ulmia.", "subject_id": "Q1", "relation": "COUNTRY", "target_id": "Q3"}
TESTS = ("Logical_Generalization", "Compositionality_I", "Compositionality_II", "Subject_Aliasing", "Forgetfulness")


def ripple(before: str, specificity: str = "Relation_Specificity") -> dict[str, Any]:
    return {"example_type": "popular", "edit": {**EDIT, before: BEFORE}, specificity: []} | {t: [] for t in TESTS}


def mquake(**changes: Any) -> dict[str, Any]:
    rewrite = {**COUNTERFACT["requested_rewrite"], "question": "q?"}
    hop = {"question": "q?", "cloze": "Ana speaks", "answer": "a", "answer_alias": []}
    return {
        "case_id": 1, "requested_rewrite": [rewrite], "questions": ["q?"], "answer": "a", "new_answer": "b",
        "single_hops": [hop], "new_single_hops": [hop], **changes,
    }  # fmt: skip


def write(tmp_path: Path, *rows: Any) -> Path:
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    return tmp_path / "cases.json"


@pytest.mark.parametrize("before", ["previous_fact", "original_fact"])
@pytest.mark.parametrize("specificity", ["Relation_Specificity", "Relation_Specifity"])
def test_ripple_edits_are_read_in_every_documented_spelling(before: str, specificity: str, tmp_path: Path) -> None:
    (case,) = load_ripple(write(tmp_path, ripple(before, specificity)))
    assert (case.request.target_new, case.request.target_true) == ("Velmora", "Ulmia")


def test_a_fault_in_the_fact_before_is_named_as_the_file_spells_it(tmp_path: Path) -> None:
    row = ripple("original_fact")
    row["edit"]["original_fact"] = "Ulmia"
    with pytest.raises(RequestError, match=r"record 1: field 'edit\.original_fact' must be an object, got str"):
        load_ripple(write(tmp_path, row))


def test_every_unusable_case_is_named_at_once_or_left_out_and_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path, mquake(), mquake(case_id=7, answer=["a"]), mquake(case_id=8, answer=["b"]), mquake(questions=[])
    )
    with pytest.raises(RequestError) as caught:
        load_mquake(path)
    assert (
        "3 of 4 records cannot be used: field 'answer' must be a string, got list (records 2 (id 7), 3 (id 8))"
        in str(caught.value)
    )
    left: list[Skipped] = []
    assert len(load_mquake(path, on_skipped=left.append)) == 1
    assert [(skipped.of, len(skipped.records)) for skipped in left] == [(4, 3)]


@pytest.mark.parametrize(
    ("load", "row", "message"),
    [
        (load_mquake, COUNTERFACT, "no MQuAKE cases: facts in the layout of CounterFact: .*benchmark real-life"),
        (load_mquake, ZSRE, "no MQuAKE cases: facts in the layout of zsRE"),
        (load_ripple, GOOD, "no RippleEdits cases: facts in the layout of plain JSONL"),
        (load_mquake, ripple("previous_fact"), "no MQuAKE cases: cases of RippleEdits: `seqedit benchmark ripple"),
        (load_ripple, mquake(), "no RippleEdits cases: cases of MQuAKE, .*`seqedit benchmark mquake"),
        (load_ripple, {"peft_type": "LORA"}, "no RippleEdits cases: the configuration of a PEFT adapter"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(load: Any, row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load(write(tmp_path, row))
