"""CounterFact scores: the published definitions, against published code's values and by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.scores.counterfact import score_records, score_tokenized, tokenize_records
from evals.scores.scores import PromptScore, RecordScore, Scores, harmonic_mean
from seqedit.errors import RequestError
from seqedit.facts.requests import Neighbor, Record, Request
from tests.evals.conftest import CASES, REFERENCE, reference_records


@pytest.mark.parametrize("case", CASES)
def test_reproduces_the_published_codes_values(case: str, model: Any, tokenizer: Any) -> None:
    scores = score_records(model, tokenizer, reference_records(case))
    expected = json.loads((REFERENCE / case / "unedited_scores.json").read_text())
    assert len(expected) == len(scores.records)
    for record, reference in zip(scores.records, expected, strict=True):
        prompts = (*record.rewrite, *record.paraphrase, *record.neighborhood)
        assert [p.prompt for p in prompts] == reference["prompts"]
        assert [p.argmax_correct for p in prompts] == reference["correct"]
        for prompt, nll in zip(prompts, reference["nll"], strict=True):
            assert prompt.nll_new == pytest.approx(nll["target_new"], abs=1e-4)
            assert prompt.nll_true == pytest.approx(nll["target_true"], abs=1e-4)


def test_batch_size_and_padding_side_change_nothing(model: Any, tokenizer: Any, records: list[Record]) -> None:
    side = tokenizer.padding_side
    runs = []
    try:
        for budget, padding in ((1, "left"), (100, "right"), (8192, "left")):
            tokenizer.padding_side = padding
            runs.append(score_records(model, tokenizer, records, max_tokens_per_batch=budget))
    finally:
        tokenizer.padding_side = side
    for other in runs[1:]:
        for a, b in zip(runs[0].records, other.records, strict=True):
            for p, q in zip(
                (*a.rewrite, *a.paraphrase, *a.neighborhood),
                (*b.rewrite, *b.paraphrase, *b.neighborhood),
                strict=True,
            ):
                values = pytest.approx((q.nll_new, q.nll_true), rel=1e-5, abs=1e-5)
                assert (p.nll_new, p.nll_true) == values


def test_llama_with_bos_gets_one_bos_in_front_and_none_in_targets(
    llama: tuple[Any, Any], records: list[Record]
) -> None:
    model, tokenizer = llama
    bos = tokenizer.bos_token_id
    for record in tokenize_records(tokenizer, records):
        for prompt in (*record.rewrite, *record.neighborhood):
            for pair in (prompt.new, prompt.true):
                assert pair is not None
                assert pair[0][0] == bos
                assert bos not in pair[0][1:] + pair[1]
    assert score_records(model, tokenizer, records)["ES"] is not None


def prompt(new: float, true: float | None, correct: bool | None = False) -> PromptScore:
    return PromptScore("p", new, true, correct)


def record(rewrite: Any, paraphrase: Any = (), neighborhood: Any = ()) -> RecordScore:
    return RecordScore(0, tuple(rewrite), tuple(paraphrase), tuple(neighborhood))


def test_averages_within_a_record_first() -> None:
    won, lost = prompt(1, 2), prompt(2, 1)
    scores = Scores((record([won], [won]), record([won], [lost, lost, lost])))
    assert scores["PS"] == 50.0  # not 25, which the average over prompts would give
    assert scores["ES"] == 100.0


def test_a_tie_counts_against_edit_and_neighbour() -> None:
    tie = prompt(1, 1)
    scores = Scores((record([tie], [tie], [tie]),))
    assert (scores["ES"], scores["PS"], scores["NS"]) == (0.0, 0.0, 0.0)


def test_neighbourhood_wants_the_true_answer() -> None:
    scores = Scores((record([], [], [prompt(2, 1, True), prompt(1, 2, False)]),))
    assert (scores["NS"], scores["NM"]) == (50.0, 50.0)


def test_s_is_the_harmonic_mean() -> None:
    assert harmonic_mean([100, 50, 50]) == pytest.approx(60.0)
    assert harmonic_mean([100, 0, 50]) == 0.0
    assert harmonic_mean([100, None, 50]) is None


def test_missing_prompts_and_answers_are_null_not_zero(model: Any, tokenizer: Any) -> None:
    bare = Record(Request("Venxa Ulmigri", "{} competes in", "golf"), neighborhood_prompts=(Neighbor("A competes in"),))
    scores = score_records(model, tokenizer, [bare])
    assert scores["EM"] is not None
    assert [scores[m] for m in ("ES", "PS", "NS", "S", "PM", "NM")] == [None] * 6
    entry = scores.to_dict()["records"][0]
    assert entry["rewrite"][0]["nll_true"] is None
    assert entry["neighborhood"][0]["argmax_correct"] is None
    json.dumps(scores.to_dict(), allow_nan=False)


def test_a_neighbours_own_answer_takes_precedence(model: Any, tokenizer: Any, records: list[Record]) -> None:
    base = records[0]
    own = replace(base, neighborhood_prompts=tuple(Neighbor(n.prompt, "golf") for n in base.neighborhood_prompts))
    plain, changed = score_records(model, tokenizer, [base, own]).records
    golf = score_records(model, tokenizer, [replace(base, request=replace(base.request, target_true="golf"))]).records[
        0
    ]
    assert [p.nll_true for p in changed.neighborhood] == [p.nll_true for p in golf.neighborhood]
    assert [p.nll_true for p in changed.neighborhood] != [p.nll_true for p in plain.neighborhood]
    assert [p.nll_true for p in changed.rewrite] == [p.nll_true for p in plain.rewrite]


def test_json_has_the_promised_form(model: Any, tokenizer: Any, records: list[Record]) -> None:
    data = score_records(model, tokenizer, records[:1]).to_dict()
    assert list(data) == ["ES", "PS", "NS", "S", "EM", "PM", "NM", "ET", "PT", "NT", "records"]
    assert list(data["records"][0]) == ["case_id", "rewrite", "paraphrase", "neighborhood"]
    prompt = data["records"][0]["rewrite"][0]
    assert list(prompt) == ["prompt", "nll_new", "nll_true", "argmax_correct", "argmax_share"]


def test_subset_scores_as_if_scored_alone(model: Any, tokenizer: Any, records: list[Record]) -> None:
    everything = score_records(model, tokenizer, records)
    some = score_tokenized(model, tokenize_records(tokenizer, records)[2:4])
    assert everything.subset([2, 3]).summary == pytest.approx(some.summary)


def test_no_records_are_all_null(model: Any, tokenizer: Any) -> None:
    assert set(score_records(model, tokenizer, []).summary.values()) == {None}


def test_record_with_an_empty_prompt_is_named(model: Any, tokenizer: Any) -> None:
    bad = Record(Request("A", "{} is", "b", case_id="x7"), paraphrase_prompts=("",))
    with pytest.raises(RequestError, match=r"record x7: .*no tokens"):
        score_records(model, tokenizer, [bad])


def test_real_records_score_without_loss(model: Any, tokenizer: Any, shared_data: Path) -> None:
    rows = json.loads((shared_data / "counterfact_2000.json").read_text())[:150]
    real = [
        Record(
            Request(r["subject"], r["prompt"].replace(r["subject"], "{}", 1), r["target_new"], r["ground_truth"]),
            (r["rephrase_prompt"],),
            (Neighbor(r["locality_prompt"], r["locality_ground_truth"]),),
        )
        for r in rows
        if r["subject"] in r["prompt"]
    ]
    scores = score_records(model, tokenizer, real)
    assert len(scores.records) == len(real) > 100
    # A model that knows none of these people is at chance.
    assert 30 < (scores["ES"] or 0) < 70
