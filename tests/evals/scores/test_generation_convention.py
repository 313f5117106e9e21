"""GE and RS by the published convention: whole texts of 100 tokens; and why a score is null."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.scores.generation import Writing, missing_scores, n_gram_entropy, score_generation
from seqedit.comparing.compare_config import compare_config
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record, Request
from seqedit.facts.snippets import read_attribute_snippets
from seqedit.runs.config import run_config
from seqedit.text.tokenization import encode

RUN: dict[str, Any] = {
    "model": "demo-gpt2", "facts": "demo:counterfact.json", "method": "ft", "settings": {"layers": [1]}, "out": "out",
}  # fmt: skip
COUNTERFACT = {
    "case_id": 1,
    "requested_rewrite": {
        "subject": "Ada", "prompt": "{} speaks", "relation_id": "P1", "target_new": {"str": "French", "id": "Q150"},
        "target_true": {"str": "English", "id": "Q1860"},
    },
    "paraphrase_prompts": [], "neighborhood_prompts": [], "generation_prompts": ["Ada often"],
}  # fmt: skip


def record(*prompts: str, texts: tuple[str, ...] = ()) -> Record:
    return Record(Request("Ada", "{} speaks", "French"), (), (), prompts, texts)


def test_published_texts_are_100_tokens_long_with_their_prompts(model: Any, tokenizer: Any) -> None:
    prompts = ("The", "The sport of Bado Holul is the sport of", "It rained.")
    found = score_generation(model, tokenizer, [record(*prompts)], writing=Writing(published=True, tokens=40))
    for prompt, text in zip(prompts, found.records[0].texts, strict=True):
        assert text.startswith(prompt)
        assert len(encode(tokenizer, text)[0]) <= 40 + 2  # decoding and tokenizing again may move a boundary
    assert found.entropy == pytest.approx(100 * n_gram_entropy(found.records[0].texts))
    alone = score_generation(model, tokenizer, [record(*prompts)], writing=Writing(published=False, tokens=12))
    assert not alone.records[0].texts[1].startswith(prompts[1])


def test_a_prompt_as_long_as_the_text_stands_alone(model: Any, tokenizer: Any) -> None:
    found = score_generation(model, tokenizer, [record("The sport of Bado")], writing=Writing(True, 2))
    assert found.records[0].texts == ("The sport of Bado",)


def test_a_comparison_follows_the_published_convention_and_a_run_file_chooses(tmp_path: Path) -> None:
    methods = {k: v for k, v in RUN.items() if k not in ("method", "settings")}
    config = compare_config({**methods, "methods": {"ft": {"settings": {"layers": [1]}}}}, tmp_path)
    assert config.evals.writing == Writing(True, 100)
    assert run_config(RUN, tmp_path).evals.writing == Writing(False, 50)
    chosen = run_config({**RUN, "evals": {"generation_convention": "published"}}, tmp_path)
    assert str(chosen.evals.writing) == "100 tokens with the prompt (as published)"
    with pytest.raises(ValueError, match="generation_convention is published or continuation, got 'rome'"):
        run_config({**RUN, "evals": {"generation_convention": "rome"}}, tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        [{"relation_id": "P1", "target_id": "Q150", "samples": [{"name": "Bo", "text": "Bo speaks French."}]}],
        {"P1": {"Q150": [{"name": "Bo", "text": "Bo speaks French."}]}},
    ],
)
def test_reference_texts_come_from_attribute_snippets(tmp_path: Path, data: Any) -> None:
    (tmp_path / "snippets.json").write_text(json.dumps(data))
    (tmp_path / "facts.json").write_text(json.dumps([COUNTERFACT]))
    snippets = read_attribute_snippets(tmp_path / "snippets.json")
    (found,) = load_records(tmp_path / "facts.json", snippets=snippets)
    assert found.reference_texts == ("Bo speaks French.",)
    assert missing_scores([found]) == {}


@pytest.mark.parametrize("text", ["{", "[]", "[1]", '{"P1": 3}', '{"P1": {"Q1": [{"name": "x"}]}}'])
def test_a_file_that_holds_no_snippets_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ValueError, match=r"attribute snippets .*s\.json"):
        read_attribute_snippets(tmp_path / "s.json")


def test_a_null_score_has_its_reason() -> None:
    assert set(missing_scores([record()])) == {"GE", "RS"}
    assert "attribute_snippets" in missing_scores([record("Ada often")])["RS"]
    assert missing_scores([replace(record("Ada often"), reference_texts=("x y",))]) == {}
