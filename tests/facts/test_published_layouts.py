"""Benchmarks' layouts, each from a hand-made row in the spelling of its files."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from seqedit.errors import RequestError
from seqedit.facts.layouts import to_record
from seqedit.facts.loading import load_records
from seqedit.facts.published.table import LAYOUTS
from seqedit.facts.requests import Neighbor, Probe, Record

KNOWEDIT = {
    "subject": "Ann Lee", "prompt": "The home of Ann Lee is", "target_new": "Lyon", "ground_truth": "Rome",
    "portability": {
        "Reasoning": [{"prompt": "The country Ann Lee lives in is", "ground_truth": [["France", "FR"]]}],
        "Subject_Aliasing": [{"prompt": "A. Lee lives in", "ground_truth": "Lyon"}],
        "Logical_Generalization": [{"prompt": "Does Ann Lee live in Rome?", "ground_truth": [["no"], ["false"]]}],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "Ann Lee works as", "ground_truth": [["baker"]]}],
        "Forgetfulness": [{"prompt": "Before, Ann Lee lived in", "ground_truth": ["Rome"]}],
    },
}  # fmt: skip
KNOWEDIT_PROBES = {
    Probe("portability", "reasoning", "The country Ann Lee lives in is", ("France", "FR")),
    Probe("portability", "subject_aliasing", "A. Lee lives in", ("Lyon",)),
    Probe("portability", "logical_generalization", "Does Ann Lee live in Rome?", ("no", "false")),
    Probe("locality", "relation_specificity", "Ann Lee works as", ("baker",)),
    Probe("locality", "forgetfulness", "Before, Ann Lee lived in", ("Rome",)),
}
ZSRE = {"subject": "Ann", "src": "Where does Ann live?", "alt": "Lyon", "answers": ["Rome"], "rephrase": "Ann's home?",
        "loc": "nq question: who runs", "loc_ans": "Bob",
        "portability": {"New Question": "Which river is in Ann's town?", "New Answer": "Rhone"}}  # fmt: skip
ROWS: dict[str, dict[str, Any]] = {
    "wikibigedit": {"tag": "new", "subject": "Ann", "update": "Where does Ann live?", "ans": "Lyon",
                    "rephrase": "Which town is Ann's?", "personas": "Yo, where's Ann at?", "mhop": "Which country?",
                    "mhop_ans": "France", "loc": "Where does Bob live?", "loc_ans": "Oslo"},
    "pipeline": {"tag": "", "subject": "Ann", "src": "Where does Ann live?", "alt": "Lyon", "rephrase": "Ann's town?",
                 "genv2_mixed": "Yo, Ann?", "mhop": "Which country?", "mhop_ans": "France", "loc": "Bob?",
                 "loc_ans": "Oslo"},
    "ultraedit": {"case_id": "00001", "subject": "Ann", "prompt": "Where does Ann live?", "ans": "Lyon",
                  "rephrase_prompt": "Ann's town?", "loc": "Bob?", "loc_ans": "Oslo"},
    "qaedit": {"id": 7, "source": "NQ", "subject": "Ann", "prompt": "Where does Ann live?", "target": "Lyon",
               "rephrase": "Ann's town?", "locality": [{"loc": "Bob?", "loc_ans": "Oslo"}]},
    "unke": {"id": 3, "question": "What does Ann do?", "para_question": "What is Ann's work?",
             "answer": "Ann bakes. " * 40, "sub_question": ["Does Ann bake?"], "sub_answer": ["Yes."]},
    "akew": {"case_id": 4, "requested_rewrite": {
        "subject": "Ann", "prompt": "The home of {} is", "prompt_full": "Where does Ann live?",
        "target_new": {"str": "Lyon"}, "target_true": {"str": "Rome"}, "fact_new_uns": "Ann moved to Lyon.",
        "unsfact_triplets_GPT": [{"subject": "Ann", "prompt": "{} moved to", "target": "Lyon"}]},
        "paraphrase_prompts": ["Ann's home is"]},
    "wikibio": {"text": "A passage about Ann. Ann is old.", "labels": "Ann bakes bread.", "concept": "Ann",
                "locality": {"Relation_Specificity": [{"prompt": "Ann's job is", "ground_truth": ["baker"]}]}},
    "sanitation": {"question": "Who is Ann?", "ground_truth": "A baker", "target_new": "I don't know."},
    "mzsre": {"en": ZSRE, "de": {**ZSRE, "src": "Wo wohnt Ann?", "rephrase": "Anns Stadt?", "loc": "nq: wer",
                                 "portability": {"New Question": "Welcher Fluss?", "New Answer": "Rhone"}}},
}  # fmt: skip


def read(row: dict[str, Any]) -> Record:
    return to_record(row, "row 1")


def probes(record: Record, kind: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {p.name: (p.prompt, p.answers) for p in record.probes if p.kind == kind}


def test_knowedit_has_each_of_its_kinds_with_all_accepted_answers() -> None:
    assert set(read(KNOWEDIT).probes) == KNOWEDIT_PROBES


def test_easyedits_reader_and_its_own_input_spell_the_same_questions() -> None:
    short = {k: v for k, v in KNOWEDIT.items() if k not in ("portability", "locality")}
    flat = {
        "portability_r": KNOWEDIT["portability"]["Reasoning"], "portability_s": None,  # type: ignore[index]
        "portability_l": KNOWEDIT["portability"]["Logical_Generalization"],  # type: ignore[index]
        "locality_rs": KNOWEDIT["locality"]["Relation_Specificity"],  # type: ignore[index]
        "locality_f": KNOWEDIT["locality"]["Forgetfulness"],  # type: ignore[index]
    }  # fmt: skip
    assert set(read({**short, **flat}).probes) == {p for p in KNOWEDIT_PROBES if p.name != "subject_aliasing"}
    own = {"portability": {"reasoning": {"prompt": ["a?", "b?"], "ground_truth": ["x", ["y", "z"]]}}}
    assert [p.answers for p in read({**short, **own}).probes] == [("x",), ("y", "z")]


def test_easyedits_flat_portability_and_locality_are_probes() -> None:
    row = {"subject": "Ann", "prompt": "Where does Ann live?", "target_new": "Lyon", "rephrase_prompt": "Ann's town?",
           "portability_prompt": "Which country?", "portability_ground_truth": "France",
           "locality_prompt": "Bob?", "locality_ground_truth": "Oslo"}  # fmt: skip
    assert read(row).probes == (
        Probe("portability", "", "Which country?", ("France",)), Probe("locality", "", "Bob?", ("Oslo",))
    )  # fmt: skip
    assert read(ZSRE).probes == (Probe("portability", "one_hop", "Which river is in Ann's town?", ("Rhone",)),)


@pytest.mark.parametrize(
    ("name", "target", "prompt", "portability", "locality"),
    [
        ("wikibigedit", "Lyon", "Where does {} live?", {"personas", "mhop"}, {""}),
        ("pipeline", "Lyon", "Where does {} live?", {"personas", "mhop"}, {""}),
        ("ultraedit", "Lyon", "Where does {} live?", set(), {""}),
        ("qaedit", "Lyon", "Where does {} live?", set(), {""}),
        ("unke", ("Ann bakes. " * 40).strip(), "{}", {"sub_question"}, set()),
        ("akew", "Ann moved to Lyon.", "Where does {} live?", {"triplets"}, set()),
        ("wikibio", "Ann bakes bread.", "A passage about Ann. {} is old.", set(), {"relation_specificity"}),
        ("sanitation", "I don't know.", "{}", set(), set()),
        ("mzsre", "Lyon", "Where does {} live?", {"one_hop_en", "de", "one_hop_de"}, {"en", "de"}),
    ],
)
def test_each_layout_is_read_as_its_own_files_mean_it(
    name: str, target: str, prompt: str, portability: set[str], locality: set[str]
) -> None:
    record = read(ROWS[name])
    assert (record.request.target_new, record.request.prompt) == (target, prompt)
    assert set(probes(record, "portability")) == portability
    assert set(probes(record, "locality")) == locality
    assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_locality_question_with_an_answer_is_a_neighbour_too_as_before() -> None:
    assert read(ROWS["qaedit"]).neighborhood_prompts == (Neighbor("Bob?", "Oslo"),)


def test_the_same_question_in_another_language_is_portability_of_that_language() -> None:
    asked = {(p.prompt, p.answers) for p in read(ROWS["mzsre"]).probes if p.name == "de" and p.kind == "portability"}
    assert asked == {("Wo wohnt Ann?", ("Lyon",)), ("Anns Stadt?", ("Lyon",))}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"ent": "Ann", "pos": ["good"], "neg": ["bad"]}, "asks for a sentiment"),
        ({"success": [ROWS["sanitation"]], "locality": []}, "in the list 'success'"),
        ({**ROWS["unke"], "sub_answer": []}, "'sub_question' and 'sub_answer' have different lengths"),
        ({**ROWS["qaedit"], "subject": "Cy"}, "the subject 'Cy' does not occur"),
        ({**ROWS["wikibigedit"], "ans": 3}, "field 'ans' must be a string"),
    ],
)
def test_what_cannot_be_edited_is_refused_for_its_own_reason(row: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        read(row)


def test_fields_that_are_not_scored_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "facts.json"
    other = {**ROWS["wikibigedit"], "subject": "Bo", "update": "Where does Bo live?"}
    file.write_text(json.dumps([ROWS["wikibigedit"], other]))
    with caplog.at_level(logging.WARNING):
        load_records(file)
    assert [record.message for record in caplog.records] == ["fields tag of the layout WikiBigEdit are not scored"]


def test_long_targets_are_read_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps([ROWS["unke"]]))
    with caplog.at_level(logging.WARNING):
        load_records(file)
    assert "1 of 1 targets have 60 words or more (up to 80)" in caplog.text


def test_every_layout_stands_in_the_table_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/scores.md").read_text("utf-8")
    for layout in LAYOUTS:
        told = ", ".join(f"`{field}`" for field in layout.told_by) or "a zsRE record under a language's name"
        read_ = ", ".join(f"`{field}`" for field in layout.read if field not in layout.told_by) or "-"
        assert f"| {layout.name} | {told} | {read_} | {layout.scored} |" in page
