"""MQuAKE and RippleEdits files: what is read, and that every unusable record is named with its field."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqedit.cases.case import CRITERIA, Query, disturbed, joint_requests
from seqedit.cases.mquake import load_mquake
from seqedit.cases.ripple import load_ripple
from seqedit.errors import InputError, RequestError
from seqedit.facts.requests import Request

MQUAKE: dict[str, Any] = {
    "case_id": 7,
    "requested_rewrite": [
        {
            "prompt": "{} is a citizen of",
            "relation_id": "P27",
            "target_new": {"str": "Libya", "id": "Q1016"},
            "target_true": {"str": "Norway", "id": "Q20"},
            "subject": "Ada Holm",
            "question": "What is the country of citizenship of Ada Holm?",
        }
    ],
    "questions": ["What is the capital of the country of which Ada Holm is a citizen?", "Which city ...?", ""],
    "answer": "Oslo",
    "answer_alias": ["Christiania"],
    "new_answer": "Tripoli",
    "new_answer_alias": [],
    "single_hops": [
        {"question": "q1?", "cloze": "Ada Holm is a citizen of", "answer": "Norway", "answer_alias": []},
        {"question": "q2?", "cloze": "The capital of Norway is", "answer": "Oslo", "answer_alias": ["Christiania"]},
    ],
    "new_single_hops": [
        {"question": "q1?", "cloze": "Ada Holm is a citizen of", "answer": "Libya", "answer_alias": ["LY"]},
        {"question": "q3?", "cloze": "The capital of Libya is", "answer": "Tripoli"},
    ],
    "orig": {"triples": [["Q1", "P27", "Q20"]]},
}


def query(prompt: str, subject: str, relation: str, value: str, key: str, phrase: str | None = None) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "answers": [{"value": value, "aliases": []}],
        "query_type": "regular",
        "subject_id": subject,
        "relation": relation,
        "target_ids": [key],
        "phrase": phrase,
    }


def ripple(name: str = "Ada von Holm", key: str = "Q1", **edit: Any) -> dict[str, Any]:
    """A record in the words of the published files, about nobody."""
    about = [
        query(f"The gender of {name} is", key, "SEX_OR_GENDER", "female", "Q10"),
        query(f"The name of the employer of {name} is", key, "EMPLOYER", "Acme", "Q11"),
        query(f"The name of the league which {name} plays in is", key, "LEAGUE", "First League", "Q12"),
    ]
    return {
        "example_type": "popular",
        "edit": {
            "prompt": f"The name of the country of citizenship of {name} is United Kingdom.",
            "subject_id": key,
            "relation": "COUNTRY_OF_CITIZENSHIP",
            "target_id": "Q145",
            "previous_fact": {
                "prompt": f"The name of the country of citizenship of {name} is United States of America.",
                "subject_id": key,
                "relation": "COUNTRY_OF_CITIZENSHIP",
                "target_id": "Q30",
            },
            **edit,
        },
        **{name: [] for name in CRITERIA},
        "Relation_Specificity": [
            {"test_queries": [q], "test_condition": "OR", "condition_queries": [q]} for q in about
        ],
    }


def written(path: Path, *rows: Any) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_mquake_case_has_edits_questions_answers_with_aliases_and_both_chains(tmp_path: Path) -> None:
    (case,) = load_mquake(written(tmp_path / "m.json", MQUAKE))
    assert case.requests == (Request("Ada Holm", "{} is a citizen of", "Libya", "Norway", "P27", 7),)
    assert len(case.questions) == 2
    assert (case.answer, case.new_answer) == (("Oslo", "Christiania"), ("Tripoli",))
    assert [hop.answer for hop in case.new_hops] == [("Libya", "LY"), ("Tripoli",)]
    assert [hop.cloze for hop in case.hops] == ["Ada Holm is a citizen of", "The capital of Norway is"]


def test_mquake_t_accepts_its_extended_answers(tmp_path: Path) -> None:
    (case,) = load_mquake(written(tmp_path / "m.json", {**MQUAKE, "answer_extended": ["Kristiania"]}))
    assert case.answer == ("Oslo", "Christiania", "Kristiania")


def _without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        part: Any = row
        for step in path[:-1]:
            part = part[step]
        del part[path[-1]]

    return change


def _set(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        part: Any = row
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_without("requested_rewrite"), "'requested_rewrite' is missing"),
        (_set([], "requested_rewrite"), "'requested_rewrite' holds no edit"),
        (_set("text", "requested_rewrite"), "'requested_rewrite' must be a list"),
        (_without("requested_rewrite", 0, "subject"), r"'requested_rewrite\[0\].subject' is missing"),
        (_set("no slot", "requested_rewrite", 0, "prompt"), r"requested_rewrite\[0\].*'prompt' must hold exactly one"),
        (
            _set(5, "requested_rewrite", 0, "target_new", "str"),
            r"'requested_rewrite\[0\].target_new.str' must be a str",
        ),
        (_set("Libya", "requested_rewrite", 0, "target_new"), r"'requested_rewrite\[0\].target_new' must be an object"),
        (_set([" "], "questions"), "'questions' holds no question"),
        (_set(["q", 3], "questions"), r"'questions\[1\]' must be a string"),
        (_without("new_answer"), "'new_answer' is missing"),
        (_set("", "answer"), "'answer' is empty"),
        (_set("Christiania", "answer_alias"), "'answer_alias' must be a list"),
        (_without("single_hops", 1, "cloze"), r"'single_hops\[1\].cloze' is missing"),
        (_set([], "new_single_hops"), "'new_single_hops' holds no hop"),
        (_set("x\0", "answer"), "NUL"),
    ],
)
def test_unusable_mquake_record_is_named_with_its_field(
    change: Callable[[dict[str, Any]], None], field: str, tmp_path: Path
) -> None:
    bad = copy.deepcopy(MQUAKE)
    change(bad)
    with pytest.raises(RequestError, match=rf"m\.json, record 2: .*{field}"):
        load_mquake(written(tmp_path / "m.json", MQUAKE, bad))


def test_files_that_are_not_there_or_empty_are_refused(tmp_path: Path) -> None:
    for load in (load_mquake, load_ripple):
        with pytest.raises(InputError, match="no such file"):
            load(tmp_path / "absent.json")
        with pytest.raises(InputError, match="holds no records"):
            load(written(tmp_path / "empty.json"))
        with pytest.raises(RequestError, match="record 1: expected a JSON object, got int"):
            load(written(tmp_path / "numbers.json", 3))


def test_names_of_an_edit_are_told_from_the_prompts_of_one_record(tmp_path: Path) -> None:
    (case,) = load_ripple(written(tmp_path / "r.json", ripple()))
    request = case.request
    assert (request.subject, request.prompt) == ("Ada von Holm", "The name of the country of citizenship of {} is")
    assert (request.target_new, request.target_true) == ("United Kingdom", "United States of America")
    assert len(case.tests["Relation_Specificity"]) == 3
    assert case.tests["Forgetfulness"] == ()


def test_names_are_told_from_a_relations_phrase_where_the_file_shows_it(tmp_path: Path) -> None:
    # Six subjects of the relation: lower-case first words, one with "is" in it, all named like no other prompt shows.
    names = ["iPhone maker", "the Beatles", "What is Love", "Ana", "Bo Li", "D'Arc"]
    rows = []
    for number, name in enumerate(names):
        row = ripple(name, f"Q{number}")
        phrase = f"The name of the country which {name} is associated with is"
        row["edit"] |= {"prompt": f"{phrase} Republic of the Congo.", "relation": "COUNTRY", "target_id": "Q999"}
        del row["edit"]["previous_fact"]
        shown = query(phrase, f"Q{number}", "COUNTRY", "Norway", "Q20")
        row["Relation_Specificity"] = [{"test_queries": [shown], "test_condition": "OR", "condition_queries": []}]
        rows.append(row)
    cases = load_ripple(written(tmp_path / "r.json", *rows))
    assert [case.request.subject for case in cases] == names
    assert {case.request.prompt for case in cases} == {"The name of the country which {} is associated with is"}
    assert {case.request.target_new for case in cases} == {"Republic of the Congo"}


def test_a_label_that_stands_beside_the_targets_id_is_taken_for_its_name(tmp_path: Path) -> None:
    row = ripple()
    row["edit"] |= {
        "prompt": "The name of the country of citizenship of Ada von Holm is This is Land.",
        "target_id": "Q77",
    }
    named = query("Ada von Holm votes in", "Q1", "VOTES", "This is Land", "Q77", phrase="Ada von Holm votes in")
    row["Logical_Generalization"] = [{"test_queries": [named], "test_condition": "AND", "condition_queries": []}]
    (case,) = load_ripple(written(tmp_path / "r.json", row))
    assert case.request.target_new == "This is Land"
    assert case.tests["Logical_Generalization"][0].all_queries


def test_fields_subject_and_target_overrule_what_is_told(tmp_path: Path) -> None:
    row = ripple(prompt="Ada H. married B C.", subject="Ada H.", target="B C")
    (case,) = load_ripple(written(tmp_path / "r.json", row))
    assert (case.request.text, case.request.target_new) == ("Ada H. married", "B C")


def test_spelling_of_the_readme_and_aliases_are_read_and_names_of_one_letter_are_none(tmp_path: Path) -> None:
    row = ripple()
    tests = row.pop("Relation_Specificity")
    tests[0]["test_queries"][0]["answers"] = [{"value": "female", "aliases": ["woman", "F", "3"]}]
    row["Relation_Specifity"] = tests
    (case,) = load_ripple(written(tmp_path / "r.json", row))
    assert case.tests["Relation_Specificity"][0].queries == (
        Query("The gender of Ada von Holm is", (("female", "woman", "3"),)),
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_without("edit"), "'edit' is missing"),
        (_without("edit", "target_id"), "'edit.target_id' is missing"),
        (_set("Nothing to see.", "edit", "prompt"), "'edit.prompt': cannot tell the subject"),
        (_set("Ada von Holm.", "edit", "prompt"), "'edit.prompt': cannot tell the target"),
        (_without("Compositionality_II"), "'Compositionality_II' is missing"),
        (_set([{}], "Forgetfulness"), r"'Forgetfulness\[0\].test_queries' is missing"),
        (_set("XOR", "Relation_Specificity", 1, "test_condition"), r"'Relation_Specificity\[1\].test_condition' must"),
        (
            _set([], "Relation_Specificity", 0, "test_queries", 0, "answers"),
            r"'Relation_Specificity\[0\].test_queries\[0\].answers' holds no answer",
        ),
    ],
)
def test_unusable_ripple_record_is_named_with_its_field_or_left_out_aloud(
    change: Callable[[dict[str, Any]], None], field: str, tmp_path: Path
) -> None:
    bad = json.loads(json.dumps(ripple()))
    change(bad)
    path = written(tmp_path / "r.json", ripple("Bo Li", "Q2"), bad)
    with pytest.raises(RequestError, match=rf"r\.json, record 2: .*{field}"):
        load_ripple(path)
    heard: list[str] = []
    assert [case.request.subject for case in load_ripple(path, on_unusable=heard.append)] == ["Bo Li"]
    assert len(heard) == 1
    assert "record 2" in heard[0]


def test_edits_of_several_cases_are_made_once_and_contradictions_name_both_cases() -> None:
    one, same, other = (Request("A", "{} is in", target, relation="P17") for target in ("x", "x", "y"))
    assert joint_requests([("a", [one]), ("b", [same])]) == [one]
    with pytest.raises(RequestError, match=r"cases a and c contradict .*'A' .*'x' and 'y'"):
        joint_requests([("a", [one]), ("c", [other])])


def test_a_case_whose_chain_another_case_changes_is_found(tmp_path: Path) -> None:
    other = json.loads(json.dumps(MQUAKE))
    other["case_id"] = 8
    other["requested_rewrite"][0] |= {
        "prompt": "The capital of {} is", "subject": "Libya", "relation_id": "P36", "target_new": {"str": "Bergen"},
    }  # fmt: skip
    other["new_single_hops"] = [{"question": "?", "cloze": "The capital of Libya is", "answer": "Bergen"}]
    cases = load_mquake(written(tmp_path / "m.json", MQUAKE, other))
    assert disturbed(cases, lambda case: str(case.case_id)) == ["7"]
    assert disturbed(cases[:1], lambda case: str(case.case_id)) == []
