"""RippleEdits scores, counted by hand."""

from __future__ import annotations

from typing import Any

from evals.answers.ripple import ripple_prompts, ripple_scores
from seqedit.cases.case import CRITERIA, Query, RippleCase, RippleTest
from seqedit.facts.requests import Request


def case(**tests: tuple[RippleTest, ...]) -> RippleCase:
    request = Request("Ada", "{} works for", "Newco", "Oldco", "EMPLOYER")
    return RippleCase("popular", request, {name: tests.get(name, ()) for name in CRITERIA})


Q1, Q2 = Query("one", (("yes", "aye"),)), Query("two", (("no",),))
BEFORE = {"Ada works for": "Oldco", "one": "yes", "two": "yes", "both": "maybe"}
AFTER = {"Ada works for": "the new Newco", "one": "well, aye", "two": "yes", "both": "red and blue"}


def outcome(test: RippleTest, **how: Any) -> bool | None:
    return ripple_scores([case(Forgetfulness=(test,))], BEFORE, AFTER, **how).cases[0].passed["Forgetfulness"][0]


def test_or_needs_one_query_and_and_needs_all() -> None:
    assert outcome(RippleTest((Q1, Q2), False, ())) is True
    assert outcome(RippleTest((Q1, Q2), True, ())) is False
    assert outcome(RippleTest((Q1,), True, ())) is True


def test_conditions_are_asked_of_the_unedited_model_and_all_must_hold() -> None:
    assert outcome(RippleTest((Q2,), False, (Q1,))) is False
    assert outcome(RippleTest((Q1,), False, (Q1, Q2))) is None  # the unedited model says yes to "two"


def test_every_wanted_answer_must_be_said_and_one_without_names_never_is() -> None:
    colours = Query("both", (("red",), ("blue", "azure")))
    assert outcome(RippleTest((colours,), False, ())) is True
    assert outcome(RippleTest((Query("both", (("red",), ("green",))),), False, ())) is False
    assert outcome(RippleTest((Query("both", (("red",), ())),), False, ())) is False


def test_exact_matches_are_stricter() -> None:
    assert outcome(RippleTest((Q1,), False, ()), match="exact") is False
    scores = ripple_scores([case()], BEFORE, AFTER, match="exact")
    assert scores.edit_success.value == 0
    assert ripple_scores([case()], BEFORE, AFTER).edit_success.value == 100


def test_accuracy_is_averaged_within_an_edit_then_over_edits_that_have_tests_which_count() -> None:
    right, wrong = RippleTest((Q1,), False, ()), RippleTest((Q2,), False, ())
    unknown = RippleTest((Q1,), False, (Q2,))
    cases = [
        case(Compositionality_I=(right, wrong, wrong, unknown)),
        case(Compositionality_I=(right,)),
        case(Compositionality_I=(unknown,)),
        case(),
    ]
    score = ripple_scores(cases, BEFORE, AFTER)["Compositionality_I"]
    assert score.accuracy.value == 100 * (1 / 3 + 1) / 2
    assert (score.accuracy.count, score.tests, score.counted, score.passed) == (2, 6, 4, 2)


def test_edits_that_were_not_taken_are_left_out_of_the_papers_average() -> None:
    good, bad = case(Subject_Aliasing=(RippleTest((Q1,), False, ()),)), case(Subject_Aliasing=())
    other = RippleCase("recent", Request("Bo", "{} works for", "Newco"), good.tests)
    answers = AFTER | {"Bo works for": "Elsewhere"}
    scores = ripple_scores([good, bad, other], BEFORE | {"Bo works for": "x"}, answers)
    assert (scores["Subject_Aliasing"].accuracy.count, scores["Subject_Aliasing"].accuracy_where_taken.count) == (2, 1)
    assert scores.previous_known.count == 2
    assert scores.previous_known.value == 100


def test_prompts_are_those_of_edit_queries_and_conditions() -> None:
    assert set(ripple_prompts([case(Forgetfulness=(RippleTest((Q1,), False, (Q2,)),))])) == {
        "Ada works for",
        "one",
        "two",
    }
