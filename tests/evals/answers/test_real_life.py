"""Real-life answers beside teacher forcing."""

from __future__ import annotations

from typing import Any

import pytest

from evals.answers.answers import Asking, exact
from evals.answers.real_life import FreeAnswer, RealLifeScores, score_real_life
from evals.likelihood.decoding import generate
from evals.scores.counterfact import score_records
from evals.scores.scores import RecordScore, Scores
from seqedit.errors import InputError
from seqedit.facts.requests import Neighbor, Record, Request


def free(text: str, target: str | None) -> FreeAnswer:
    if target is None:
        return FreeAnswer("p", None, text, None, None)
    return FreeAnswer("p", target, text, text == target, target in text)


def scores(*records: dict[str, tuple[FreeAnswer, ...]]) -> RealLifeScores:
    filled = tuple({"rewrite": (), "paraphrase": (), "neighborhood": (), **record} for record in records)
    return RealLifeScores(filled, Scores(tuple(RecordScore(i, (), (), ()) for i in range(len(records)))))


def test_counted_by_hand() -> None:
    found = scores(
        {"rewrite": (free("b", "b"),), "neighborhood": (free("a", "a"), free("so a", "a"), free("c", "a"))},
        {"rewrite": (free("a", "b"),), "neighborhood": (free("c", None),)},
    )
    assert (found["ER"].value, found["ER"].count) == (50, 2)
    assert found["NR"].value == pytest.approx(100 / 3)
    assert found["NC"].value == pytest.approx(200 / 3)
    assert found["NR"].count == 1  # the other record's right answer is not known
    assert found["PR"].value is None
    assert set(found.to_dict()) == {g + k for g in "EPN" for k in "RCMT"} | {"records"}


def test_unchanged_compares_answers_not_truth() -> None:
    before = scores({"neighborhood": (free("x", "a"), free("a", "a"))})
    after = scores({"neighborhood": (free("x", "a"), free("b", "a"))})
    assert after.unchanged(before).value == 50


def test_unknown_metric_is_refused() -> None:
    for name in ("ES", "XR", "E"):
        with pytest.raises(InputError, match="unknown metric"):
            scores()[name]


def test_answers_are_the_models_own_and_forced_scores_are_the_published_ones(
    model: Any, tokenizer: Any, records: list[Record]
) -> None:
    found = score_real_life(model, tokenizer, records[:3])
    assert found.forced == score_records(model, tokenizer, records[:3])
    for record, answers in zip(records[:3], found.answers, strict=True):
        (rewrite,) = answers["rewrite"]
        assert rewrite.target == record.request.target_new
        assert len(answers["neighborhood"]) == len(record.neighborhood_prompts)
        assert {a.target for a in answers["neighborhood"]} == {record.request.target_true}
        text = generate(model, tokenizer, [record.request.text], max_new_tokens=50, top_k=1)[0]
        assert text.strip().startswith(rewrite.answer)
        assert rewrite.exact == exact(rewrite.answer, [record.request.target_new])


def test_teacher_forcing_can_be_right_where_the_free_answer_is_not(model: Any, tokenizer: Any) -> None:
    """The paper's point: forcing ends where the target ends, a free answer goes on."""
    prompt = "The sport of Bado Holul is"
    ids = tokenizer(generate(model, tokenizer, [prompt], max_new_tokens=1, top_k=1)[0])["input_ids"]
    target = tokenizer.decode(ids).strip()
    record = Record(Request("Bado Holul", "The sport of {} is", target), (), (Neighbor(prompt, target),))
    longer = Record(Request("Bado Holul", "{} is", "x"), (), (Neighbor(prompt, f"{target} zzz"),))
    found = score_real_life(model, tokenizer, [record, longer])
    assert found["EM"].value is not None
    first, second = found.answers
    assert not second["neighborhood"][0].exact
    assert found.forced.records[0].rewrite[0].argmax_correct
    assert first["rewrite"][0].exact == (first["rewrite"][0].answer == target)


def test_the_template_stands_around_free_prompts_only(model: Any, tokenizer: Any, records: list[Record]) -> None:
    plain, asked = (
        score_real_life(model, tokenizer, records[:1], Asking(t, max_new_tokens=8)) for t in ("question-only", "qa")
    )
    assert plain.forced == asked.forced
    text = generate(model, tokenizer, [Asking("qa").prompt(records[0].request.text)], max_new_tokens=8, top_k=1)[0]
    assert text.strip().startswith(asked.answers[0]["rewrite"][0].answer)
