"""Seeded generation, its entropy and similarity scores, and perplexity."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from evals.likelihood.decoding import generate
from evals.likelihood.perplexity import score_perplexity
from evals.scores.generation import fit_vectorizer, n_gram_entropy, score_generation, tfidf_similarity
from seqedit.errors import InputError
from seqedit.facts.requests import Record

PROMPTS = [
    "Venxa Ulmigri professionally plays the sport of",
    "The sport of Bado Holul is",
    "In the city of",
    "The",
]


@pytest.mark.parametrize("family", ["reference_model", "llama"])
def test_texts_do_not_depend_on_the_batch(family: str, request: pytest.FixtureRequest) -> None:
    model, tokenizer = request.getfixturevalue(family)
    alone, together = (generate(model, tokenizer, PROMPTS, max_new_tokens=15, seed=3, batch_size=n) for n in (1, 4))
    assert alone == together
    assert any(text.strip() for text in alone)


def test_seed_decides_the_text(model: Any, tokenizer: Any) -> None:
    runs = [generate(model, tokenizer, PROMPTS, max_new_tokens=20, seed=s) for s in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_global_random_state_is_neither_read_nor_moved(model: Any, tokenizer: Any) -> None:
    torch.manual_seed(0)
    first = generate(model, tokenizer, PROMPTS, max_new_tokens=5)
    state = torch.get_rng_state()
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=5) == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("family", ["reference_model", "llama"])
def test_top_1_is_greedy_decoding(family: str, request: pytest.FixtureRequest) -> None:
    model, tokenizer = request.getfixturevalue(family)
    texts = generate(model, tokenizer, PROMPTS, max_new_tokens=8, top_k=1)
    for prompt, text in zip(PROMPTS, texts, strict=True):
        ids = tokenizer(prompt)["input_ids"]
        start = len(ids)
        for _ in range(8):  # no cache, no padding
            with torch.no_grad():
                best = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            if best == tokenizer.eos_token_id:
                break
            ids.append(best)
        assert tokenizer.decode(ids[start:], skip_special_tokens=True) == text


def test_text_ends_at_the_models_last_position(llama: tuple[Any, Any]) -> None:
    model, tokenizer = llama
    long = "The " * 55
    used = len(tokenizer(long)["input_ids"])
    assert 110 < used < 128
    text = generate(model, tokenizer, [long, "The"], max_new_tokens=30, top_k=1)[0]
    again = generate(model, tokenizer, [long], max_new_tokens=128 - used + 1, top_k=1)[0]
    assert text == again


@pytest.mark.parametrize("bad", [{"max_new_tokens": 0}, {"top_k": 0}, {"batch_size": 0}])
def test_numbers_below_one_are_refused(model: Any, tokenizer: Any, bad: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        generate(model, tokenizer, PROMPTS, **bad)


def test_no_prompts_give_no_texts(model: Any, tokenizer: Any) -> None:
    assert generate(model, tokenizer, []) == []


def test_entropy_by_hand() -> None:
    # Bigrams: ab, bc, ca, ab, bc -> 2/5, 2/5, 1/5; trigrams: abc, bca, cab, abc -> 2/4, 1/4, 1/4.
    h2 = -(2 * 0.4 * math.log2(0.4) + 0.2 * math.log2(0.2))
    assert n_gram_entropy(["a b c a b c"]) == pytest.approx((2 / 3 * h2 + 4 / 3 * 1.5) / 2)


def test_entropy_is_zero_for_a_text_that_repeats_itself_or_is_short() -> None:
    assert n_gram_entropy(["no no no no no"]) == 0.0
    assert n_gram_entropy(["word"]) == 0.0
    assert n_gram_entropy([""]) == 0.0


def test_entropy_averages_over_texts() -> None:
    lively = n_gram_entropy(["a b c d e"])
    assert n_gram_entropy(["a b c d e", "x x x x x"]) == pytest.approx(lively / 2)


def test_tfidf_similarity_is_one_for_equal_and_zero_for_foreign_texts() -> None:
    vectorizer = fit_vectorizer(["golf is played on grass", "rowing is done on water"])
    assert tfidf_similarity("golf on grass", "golf on grass", vectorizer) == pytest.approx(1)
    assert tfidf_similarity("quantum chromodynamics", "golf on grass", vectorizer) == 0.0
    near = tfidf_similarity("golf grass", "golf is played on grass", vectorizer)
    far = tfidf_similarity("rowing water", "golf is played on grass", vectorizer)
    assert near > far


def test_no_words_no_vectorizer() -> None:
    assert fit_vectorizer([]) is None
    assert fit_vectorizer(["", "! ?"]) is None


def test_scores_leave_the_prompt_out_and_average_over_records(
    model: Any, tokenizer: Any, records: list[Record]
) -> None:
    with_texts = replace(records[0], reference_texts=("She plays golf every day.",))
    without = replace(records[1], generation_prompts=())
    scores = score_generation(model, tokenizer, [with_texts, records[2], without], max_new_tokens=12)
    first, second, third = scores.records
    assert scores.entropy == pytest.approx(((first.entropy or 0) + (second.entropy or 0)) / 2)
    assert scores.reference == first.reference is not None
    assert (second.reference, third.entropy, third.texts) == (None, None, ())
    assert not any(t.startswith(p) for t, p in zip(first.texts, with_texts.generation_prompts, strict=True))
    assert list(scores.to_dict()) == ["GE", "RS", "records"]


def test_no_generation_prompts_are_null(model: Any, tokenizer: Any, records: list[Record]) -> None:
    scores = score_generation(model, tokenizer, [replace(records[0], generation_prompts=())])
    assert (scores.entropy, scores.reference) == (None, None)


TEXTS = ["The sport of Bado Holul is rowing. " * 8, "Venxa Ulmigri competes in rowing. " * 5]


def test_perplexity_by_hand(model: Any, tokenizer: Any) -> None:
    ids = tokenizer(TEXTS[0])["input_ids"] + [tokenizer.eos_token_id] + tokenizer(TEXTS[1])["input_ids"]
    losses = []
    for start in range(0, len(ids), 32):
        piece = torch.tensor([ids[start : start + 32]])
        if piece.shape[1] > 1:
            with torch.no_grad():
                logits = model(piece).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="none"))
    expected = torch.cat(losses)
    result = score_perplexity(model, tokenizer, TEXTS, length=32)
    assert result.value == pytest.approx(float(expected.mean().exp()), rel=1e-5)
    assert result.tokens == len(expected)


def test_damage_raises_perplexity(model: Any, tokenizer: Any) -> None:
    import copy

    damaged = copy.deepcopy(model)
    with torch.no_grad():
        damaged.transformer.h[2].mlp.c_proj.weight.mul_(-3)
    before, after = (score_perplexity(m, tokenizer, TEXTS).value for m in (model, damaged))
    assert after > 2 * before


@pytest.mark.parametrize(("texts", "length"), [([], 32), (["a"], 1)])
def test_perplexity_needs_text(model: Any, tokenizer: Any, texts: list[str], length: int) -> None:
    with pytest.raises(InputError):
        score_perplexity(model, tokenizer, texts, length=length)
