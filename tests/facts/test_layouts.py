"""Layouts of published fact files, with the fields they really have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seqedit.errors import InputError, RequestError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Neighbor, Record, Request
from tests.conftest import REFERENCE
from tests.facts.test_malformed_facts import COUNTERFACT, ZSRE

# KnowEdit's wiki_recent and wiki_counterfact: answers are lists of aliases, localities are sorted by kind.
KNOWEDIT: dict[str, Any] = {
    "subject": "Leo Arons",
    "prompt": "The place of death of Leo Arons is",
    "target_new": "Berlin",
    "ground_truth": ["Munich", "Muenchen"],
    "portability": {
        "Logical_Generalization": [{"prompt": "Is Leo Arons still alive?", "ground_truth": [["no"], ["incorrect"]]}],
        "Subject_Aliasing": [{"prompt": "Martin Leo Arons died in", "ground_truth": [["Berlin"]]}],
    },
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The gender of Leo Arons is", "ground_truth": [["male", "man"]]},
            {"prompt": "The employer of Leo Arons is", "ground_truth": [["Humboldt"], ["Strassburg"]]},
            {"prompt": "The child of Leo Arons is", "ground_truth": []},
        ],
        "Forgetfulness": [{"prompt": "He also died in", "ground_truth": "Rome"}],
    },
}


def load(tmp_path: Path, *rows: Any) -> list[Record]:
    (tmp_path / "f.json").write_text(json.dumps(rows))
    return load_records(tmp_path / "f.json")


def test_knowedit_localities_keep_their_own_answers(tmp_path: Path) -> None:
    (record,) = load(tmp_path, KNOWEDIT)
    assert record.request == Request("Leo Arons", "The place of death of {} is", "Berlin", "Munich")
    assert record.neighborhood_prompts == (
        Neighbor("The gender of Leo Arons is", "male"),
        Neighbor("The employer of Leo Arons is", "Humboldt"),
        Neighbor("He also died in", "Rome"),
    )
    assert record.paraphrase_prompts == ()


def test_knowedit_zsre_has_a_rephrasing_and_no_truth(tmp_path: Path) -> None:
    row = {
        "subject": "Watts Humphrey", "prompt": "Which university did Watts Humphrey attend?",
        "target_new": "University of Michigan", "rephrase_prompt": "Where did Watts Humphrey study?",
        "cond": "a >> b || c", "locality": {"Relation_Specificity": []}, "portability": {"Reasoning": []},
    }  # fmt: skip
    (record,) = load(tmp_path, row)
    assert record.request.target_true is None
    assert record.paraphrase_prompts == ("Where did Watts Humphrey study?",)


def test_easyedit_localities_as_two_lists(tmp_path: Path) -> None:
    row = {
        **KNOWEDIT,
        "portability": None,
        "locality": {
            "neighborhood": {"prompt": ["A is", "B is"], "ground_truth": ["a", ["b", "bb"]]},
            "distracting": {"prompt": "C is", "ground_truth": "c"},
            "none": None,
        },
    }
    (record,) = load(tmp_path, row)
    assert [(n.prompt, n.target_true) for n in record.neighborhood_prompts] == [
        ("A is", "a"), ("B is", "b"), ("C is", "c"),
    ]  # fmt: skip
    row["locality"]["neighborhood"]["ground_truth"] = ["a"]
    with pytest.raises(RequestError, match=r"record 1: field 'locality\.neighborhood': .* different lengths"):
        load(tmp_path, row)


@pytest.mark.parametrize(
    ("locality", "message"),
    [
        ([], "malformed .field 'locality' must be an object, got list"),
        ({"kind": ["text"]}, "malformed .field 'locality.kind' must be an object, got str"),
        ({"kind": [{"prompt": 3, "ground_truth": "a"}]}, "field 'locality.kind.prompt' must be a string, got int"),
        ({"kind": [{"prompt": "a", "ground_truth": [[3]]}]}, "field 'locality.kind.ground_truth' must be a string"),
        ({"kind": [{"ground_truth": "a"}]}, "field 'prompt' is missing"),
    ],
)
def test_a_malformed_locality_is_named(locality: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"record 1: {message}"):
        load(tmp_path, {**KNOWEDIT, "locality": locality or [1]})


def test_zsre_takes_the_first_of_several_answers_and_pred_without_any(tmp_path: Path) -> None:
    several, none = load(tmp_path, {**ZSRE, "answers": ["a", "b"]}, {**ZSRE, "answers": []})
    assert (several.request.target_true, none.request.target_true) == ("a", "uniform")
    (tmp_path / "f.json").write_text(json.dumps([{**ZSRE, "answers": []}]))
    with pytest.raises(RequestError, match="record 1: field 'answers' is missing"):
        load_records(tmp_path / "f.json", zsre="memit")


def test_easyedits_zsre_with_portability_is_zsre(tmp_path: Path) -> None:
    portability = {"Recalled Relation": "(a, b)", "New Question": "q?", "New Answer": "a"}
    (record,) = load(tmp_path, {**ZSRE, "portability": portability})
    assert [replace(record, probes=())] == load(tmp_path, ZSRE)
    assert [(p.prompt, p.answers) for p in record.probes] == [("q?", ("a",))]


def test_multi_counterfact_is_counterfact(tmp_path: Path) -> None:
    """Both files of the MEMIT code have the fields of the reference cases, which come from that code."""
    rows = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
    found = load(tmp_path, *rows)
    assert [r.request.case_id for r in found] == [row["case_id"] for row in rows]
    assert [len(r.neighborhood_prompts) for r in found] == [len(row["neighborhood_prompts"]) for row in rows]


def test_neighbours_of_the_plain_layout_may_have_their_own_answer(tmp_path: Path) -> None:
    row = {
        "subject": "Lyon", "prompt": "{} is", "target_new": "a", "case_name": "n",
        "neighborhood_prompts": [{"prompt": "Paris is", "target_true": "b"}, {"prompt": "Rome is"}],
    }  # fmt: skip
    (record,) = load(tmp_path, row)
    assert record.request.case_id == "n"
    assert record.neighborhood_prompts == (Neighbor("Paris is", "b"), Neighbor("Rome is"))
    with pytest.raises(RequestError, match="field 'neighborhood_prompts' must be an object, got str"):
        load(tmp_path, {**row, "neighborhood_prompts": [{"prompt": "a"}, "b"]})


def test_null_fields_are_absent_fields(tmp_path: Path) -> None:
    (record,) = load(tmp_path, {**COUNTERFACT, "case_id": None, "generation_prompts": None, "src": None})
    assert record.request.case_id is None
    assert record.request.subject == "Ana"


def test_real_localities_have_answers(shared_data: Path) -> None:
    for name in ("counterfact_2000.json", "zsre_500.json"):
        for record in load_records(shared_data / name):
            assert record.request.target_true
            assert len(record.paraphrase_prompts) == 1
            assert all(near.target_true for near in record.neighborhood_prompts)
    assert len({r.request.case_id for r in load_records(shared_data / "counterfact_2000.json")}) == 2000
