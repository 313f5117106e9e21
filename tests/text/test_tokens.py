"""Lookup tokens and targets, on the demo-size tokenizer, on GPT-2's own, and with a BOS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqedit.errors import RequestError
from seqedit.facts.requests import Request
from seqedit.text.lookup import check_context_templates, tokenize_kl_prompt, tokenize_request
from seqedit.text.tokenization import encode, prompt_and_target_ids


@pytest.fixture(scope="module", params=["reference", "bos"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("reference_model" if request.param == "reference" else "llama")[1]


@pytest.mark.parametrize(
    ("subject", "prompt"),
    [
        ("Venxa Ulmigri", "{} plays"),
        ("Venxa Ulmigri", "The sport of {} is"),
        ("Venxa Ulmigri", "The sport of {}"),
        ("Zoë Łukasz-Ñandú", "The mother tongue of {} is"),
        ("a{b}c", "The thing {} is"),
        ("the", "the sport of {} is the"),
        ("O'Brien (Jr.)", "{}, who plays"),
        ("東京", "{} is in"),
    ],
)
def test_the_lookup_token_ends_the_subject(tokenizer: Any, subject: str, prompt: str) -> None:
    found = tokenize_request(tokenizer, Request(subject, prompt, "golf"))
    text = prompt.replace("{}", subject)
    ids, offsets = encode(tokenizer, text)
    assert list(found.ids) == ids
    end = prompt.index("{}") + len(subject)
    left, right = offsets[found.lookup]
    assert left < end <= right, "the token at the lookup index does not hold the subject's last character"
    assert all(other_left >= end for other_left, _ in offsets[found.lookup + 1 :]), "a later token is in the subject"


def test_a_context_in_front_moves_the_lookup_token(tokenizer: Any) -> None:
    request = Request("Venxa Ulmigri", "The sport of {} is", "golf")
    bare = tokenize_request(tokenizer, request)
    moved = tokenize_request(tokenizer, request, "It rained. {}")
    assert moved.lookup > bare.lookup
    assert moved.ids[moved.lookup] == bare.ids[bare.lookup]


def test_targets_continue_the_prompt_as_the_whole_text_does_and_hold_no_bos(tokenizer: Any) -> None:
    prompt, target = "Venxa Ulmigri plays", "water polo"
    prompt_ids, target_ids = prompt_and_target_ids(tokenizer, prompt, target)
    whole, _ = encode(tokenizer, f"{prompt} {target}")
    assert prompt_ids + target_ids == whole
    assert not set(target_ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(target_ids).strip() == target


def test_the_prompt_is_followed_by_all_target_tokens_but_the_last(tokenizer: Any) -> None:
    found = tokenize_request(tokenizer, Request("Venxa", "{} plays", "water polo"), with_target=True)
    assert len(found.target_ids) > 1
    assert found.ids[found.target_start + 1 :] == found.target_ids[:-1]


def test_the_kl_prompt_is_the_subject_and_is_a(tokenizer: Any) -> None:
    found = tokenize_kl_prompt(tokenizer, Request("Venxa Ulmigri", "The sport of {} is", "golf"))
    assert tokenizer.decode(found.ids, skip_special_tokens=True) == "Venxa Ulmigri is a"


@pytest.mark.parametrize("bad", [[], ["{}"], [["{} {}"]], [["nothing"]], [[]], "x"])
def test_context_templates_of_another_form_are_refused(bad: Any) -> None:
    with pytest.raises(RequestError, match="context template"):
        check_context_templates(bad)


def test_real_subjects_have_lookup_tokens_under_gpt2s_own_tokenizer(shared_data: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    from seqedit.facts.loading import load_records

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(shared_data / "gpt2_tokenizer.json"))
    records = load_records(shared_data / "counterfact_2000.json", limit=1000)
    records += load_records(shared_data / "zsre_500.json", limit=200)
    for record in records:
        found = tokenize_request(tokenizer, record.request, with_target=True)
        decoded = tokenizer.decode(found.ids[: found.lookup + 1])
        assert decoded.endswith(record.request.subject[-1]) or record.request.subject in decoded
        assert tokenizer.decode(found.target_ids).strip() == record.request.target_new
