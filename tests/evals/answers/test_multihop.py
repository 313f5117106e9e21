"""MQuAKE scores, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from evals.answers.answers import Asking
from evals.answers.multihop import case_prompts, multihop_scores, score_multihop
from seqedit.cases.case import Hop, MultiHopCase
from seqedit.facts.requests import Request

EDIT = Request("Ada", "{} works for", "Newco", "Oldco", "P108", 1)
CASE = MultiHopCase(
    1,
    (EDIT,),
    ("Where is Ada's company?", "Ada's company is in which city?", "City of Ada's company?"),
    ("Oslo",),
    ("Rome", "Roma"),
    (Hop("Who pays Ada?", "Ada works for", ("Oldco",)), Hop("Where is Oldco?", "Oldco is in", ("Oslo",))),
    (Hop("Who pays Ada?", "Ada works for", ("Newco", "New Co")), Hop("Where is Newco?", "Newco is in", ("Rome",))),
)
ASKING = Asking("Q: {} A:")


def said(**changes: str) -> dict[str, str]:
    """Everything right after the edit, but for the changes."""
    right = {
        "Ada works for": "Newco",
        "Q: Where is Newco? A:": "Rome",
        "Q: Where is Oldco? A:": "Oslo",
        "Q: Where is Ada's company? A:": "Newco",
        "Q: Ada's company is in which city? A:": "Roma",
        "Q: City of Ada's company? A:": "Newco in Rome",
    }
    return right | {{"edit": "Ada works for", "hop": "Q: Where is Newco? A:"}.get(k, k): v for k, v in changes.items()}


def values(answers: dict[str, str], **how: Any) -> list[float | None]:
    summary = multihop_scores([CASE], answers, ASKING, **how).summary()
    names = ("edit_wise", "instance_wise", "multi_hop", "multi_hop_where_recalled")
    return [summary[name].value for name in names]


def test_prompts_are_the_edit_as_a_cloze_and_the_rest_as_questions() -> None:
    assert set(case_prompts([CASE], ASKING)) == set(said())


def test_any_wording_with_the_answer_or_an_alias_will_do() -> None:
    scores = multihop_scores([CASE], said(), ASKING)
    assert scores.cases[0].questions == (False, True, False)
    assert scores.cases[0].answers == ("Newco", "Roma", "Newco in Rome")
    assert values(said()) == [100, 100, 100, 100]


def test_containment_is_counted_apart() -> None:
    answers = said() | {"Q: Ada's company is in which city? A:": "Oslo"}
    assert values(answers) == [100, 100, 0, 0]
    assert values(answers, match="contained") == [100, 100, 100, 100]


def test_an_alias_of_the_edits_target_will_do() -> None:
    assert values(said(edit="New Co"))[0] == 100


def test_an_instance_needs_every_hop() -> None:
    assert values(said(hop="Oslo")) == [100, 0, 100, None]
    assert values(said(edit="Oldco")) == [0, 0, 100, None]


def test_the_old_chain_is_held_against_the_old_answers() -> None:
    assert values(said(edit="Oldco"), edited=False) == [100, 100, 0, 0]
    assert values(said(), edited=False) == [0, 0, 0, None]


def test_a_model_is_asked_greedily(model: Any, tokenizer: Any) -> None:
    once, again = (score_multihop(model, tokenizer, [CASE], Asking(max_new_tokens=8)) for _ in range(2))
    assert once == again
    assert len(once.cases[0].answers) == 3


def test_averages_are_over_edits_and_over_cases() -> None:
    two = MultiHopCase(2, (EDIT, Request("Newco", "{} is in", "Rome", "Bonn")), CASE.questions, ("a",), ("Rome",),
                       CASE.hops, CASE.new_hops)  # fmt: skip
    answers = said() | {"Newco is in": "Bonn"}
    summary = multihop_scores([CASE, two], answers, ASKING).summary()
    assert summary["edit_wise"].value == pytest.approx(200 / 3)
    assert summary["edit_wise"].count == 3
    assert (summary["instance_wise"].value, summary["instance_wise"].count) == (50, 2)
