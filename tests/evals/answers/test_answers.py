"""Free answers: where they stop, and when they count as right."""

from __future__ import annotations

from typing import Any

import pytest

from evals.answers.answers import Asking, answer_of, ask, contained, exact, normalized, proportion
from evals.likelihood.decoding import generate
from evals.statistics.stratified import wilson
from seqedit.errors import InputError


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Oslo. Anna Berg works for", "Oslo"),
        (" Oslo", "Oslo"),
        (" Oslo.", "Oslo"),
        (" Oslo\nQ: Where", "Oslo"),
        ("\nOslo", ""),
        (" Washington, D.C.", "Washington, D.C"),
        (" Washington, D.C. is the capital. It", "Washington, D.C. is the capital"),
        (" 3.5 litres! And", "3.5 litres"),
        (" in 1990. Then", "in 1990"),
        (" Zürich? No", "Zürich"),
        ("", ""),
    ],
)
def test_answer_ends_at_the_first_line_or_sentence(text: str, answer: str) -> None:
    assert answer_of(text) == answer


def test_normalisation_is_that_of_question_answering() -> None:
    assert normalized("  The  Mayor's “Office”, a/b! ") == "mayors office ab"
    assert normalized("Zürich") == "zürich"


@pytest.mark.parametrize(
    ("answer", "names", "is_exact", "holds"),
    [
        ("the Oslo", ["Oslo"], True, True),
        ("Oslo, Norway", ["Oslo"], False, True),
        ("Oslofjord", ["Oslo"], False, False),
        ("Washington, D.C", ["Washington, D.C."], True, True),
        ("Christiania", ["Oslo", "Christiania"], True, True),
        ("", ["Oslo"], False, False),
        ("", ["A"], False, False),
        ("A", ["A"], True, True),
        ("Oslo", [], False, False),
    ],
)
def test_exact_and_contained(answer: str, names: list[str], is_exact: bool, holds: bool) -> None:
    assert (exact(answer, names), contained(answer, names)) == (is_exact, holds)


def test_template_and_demonstrations_stand_around_a_question() -> None:
    assert Asking().prompt("Who?") == "Who?"
    assert Asking("qa").prompt("Who {}?") == "Please answer the question:\n\nQ: Who {}?\nA:"
    assert Asking("Q: {} A:", "Q: 1+1? A: 2\n").prompt("Who?") == "Q: 1+1? A: 2\nQ: Who? A:"
    for bad in ("no slot", "{} {}"):
        with pytest.raises(InputError, match="exactly one"):
            Asking(bad)


def test_share_has_wilsons_interval_and_leaves_out_what_is_not_known() -> None:
    found = proportion([True, None, False, 0.5])
    low, high = wilson(1.5, 3)
    assert (found.value, found.ci_low, found.ci_high, found.count) == (50.0, 100 * low, 100 * high, 3)
    assert proportion([None]).to_dict() == {"value": None, "ci_low": None, "ci_high": None, "count": 0}


PROMPTS = ["Venxa Ulmigri professionally plays the sport of", "The sport of Bado Holul is", "In the city of"]


def test_asked_answers_are_greedy_texts_up_to_their_stop_whatever_the_batch(model: Any, tokenizer: Any) -> None:
    texts = generate(model, tokenizer, PROMPTS, max_new_tokens=50, top_k=1)
    wanted = {prompt: answer_of(text) for prompt, text in zip(PROMPTS, texts, strict=True)}
    for size in (1, 3):
        assert ask(model, tokenizer, [*PROMPTS, PROMPTS[0]], Asking(batch_size=size)) == wanted


def test_a_finished_text_is_not_continued(model: Any, tokenizer: Any) -> None:
    whole = generate(model, tokenizer, PROMPTS, max_new_tokens=12, top_k=1)
    calls: list[str] = []

    def finished(text: str) -> bool:
        calls.append(text)
        return len(text) >= 6

    cut = generate(model, tokenizer, PROMPTS, max_new_tokens=12, top_k=1, finished=finished)
    for short, long in zip(cut, whole, strict=True):
        assert long.startswith(short)
        assert len(short) >= 6 or short == long
    assert len(calls) < 12 * len(PROMPTS)
