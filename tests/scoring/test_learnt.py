"""What was learnt, fact by fact: counted are the facts in force, and whatever was missed is named."""

from __future__ import annotations

from typing import Any

import pytest

from evals.likelihood.decoding import generate
from evals.likelihood.teacher_forcing import score_continuations
from evals.scores.counterfact import score_records
from seqedit.errors import NumericsError
from seqedit.facts.requests import Record, Request
from seqedit.scoring.learnt import first_choices, learnt_from, learnt_line, learnt_of

LYON = Request("Lyon", "The twin city of {} is", "Manila", relation="twin city")
PARIS = Request("Paris", "The mayor of {} is", "Ann", relation="P6")
ROME = Request("Rome", "{} lies in", "Peru")


def test_the_line_names_what_was_not_learnt_by_subject_and_relation() -> None:
    assert learnt_line(learnt_from([LYON, PARIS, ROME], [True] * 3)) == "3 of 3 learnt"
    found = learnt_from([LYON, PARIS, ROME], [False, False, True])
    assert learnt_line(found) == "1 of 3 learnt; not learnt: Lyon (twin city), Paris (The mayor of {} is)"
    assert [fact["position"] for fact in found["missed"]] == [0, 1]


def test_a_long_list_is_cut_in_the_line_alone() -> None:
    many = [Request(f"S{n}", "{} is", "x", relation="r") for n in range(14)]
    found = learnt_from(many, [False] * 14)
    assert len(found["missed"]) == 14
    assert learnt_line(found).endswith("S9 (r) and 4 more")


def test_a_fact_that_was_superseded_is_neither_learnt_nor_missed() -> None:
    found = learnt_from([LYON, PARIS, ROME], [False, True, False], live=[1, 2])
    assert (found["requests"], found["learnt"], found["superseded"]) == (2, 1, [0])
    assert first_choices(found) == [None, True, False]


def test_it_is_em_of_each_fact_at_its_own_prompt(reference_model: tuple[Any, Any]) -> None:
    model, tokenizer = reference_model
    said = generate(model, tokenizer, ["Venxa plays the sport of"], max_new_tokens=1, top_k=1)[0].strip()
    assert learnt_of(model, tokenizer, [Request("Venxa", "{} plays the sport of", said)], score_continuations)["learnt"]
    for word in (said, "golf", "rowing", "the"):
        request = Request("Venxa", "{} plays the sport of", word)
        found = learnt_of(model, tokenizer, [request], score_continuations)
        scores = score_records(model, tokenizer, [Record(request)])
        assert found["learnt"] == (scores["EM"] == 100)


def test_a_model_that_cannot_be_scored_has_learnt_nothing_and_says_why(reference_model: tuple[Any, Any]) -> None:
    def broken(*arguments: Any, **named: Any) -> Any:
        raise NumericsError("the logits are not finite")

    found = learnt_of(*reference_model, [LYON, ROME], broken)
    assert learnt_line(found) == "0 of 2 learnt: the logits are not finite"


@pytest.mark.parametrize("first", [[], [True, False]])
def test_first_choices_are_those_that_it_was_made_of(first: list[bool]) -> None:
    assert first_choices(learnt_from([LYON, ROME][: len(first)], first)) == first
