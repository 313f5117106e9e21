"""The shipped models: what they are made of, and that they know their world."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from seqedit import demo
from seqedit.demo.world import World
from seqedit.demo_training.check import task_scores
from seqedit.demo_training.recall import fact_recall, perplexity

STYLES = [
    pytest.param(
        style,
        marks=pytest.mark.skipif(
            not demo.model_path(style).is_dir(), reason=f"the {style} model is not shipped yet (docs/guide/demo.md)"
        ),
    )
    for style in ("gpt2", "llama")
]


@pytest.fixture(scope="module")
def world() -> World:
    return demo.world()


@pytest.fixture(scope="module", params=STYLES)
def shipped(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    path = demo.model_path(request.param)
    return request.param, AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize("style", STYLES)
def test_model_directory_is_small_float32_and_free_of_pickles(style: str) -> None:
    files = {path.name: path for path in demo.model_path(style).iterdir()}
    assert set(files) >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert sum(path.stat().st_size for path in files.values()) < 15_000_000
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]
    header = files["model.safetensors"].read_bytes()
    tensors = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert {entry["dtype"] for name, entry in tensors.items() if name != "__metadata__"} == {"F32"}


def test_model_recalls_facts_in_phrasings_it_never_saw(shipped: tuple[str, Any, Any], world: World) -> None:
    _, model, tokenizer = shipped
    facts = world.rng("test recall").sample(world.facts, 600)
    assert fact_recall(model, tokenizer, facts) >= 0.97
    assert fact_recall(model, tokenizer, facts, "prefixed") >= 0.95


def test_model_does_not_know_another_world(shipped: tuple[str, Any, Any]) -> None:
    _, model, tokenizer = shipped
    other = demo.world(7)
    assert fact_recall(model, tokenizer, other.rng("test recall").sample(other.facts, 200)) < 0.3


def test_model_tells_acceptable_sentences_and_solves_the_other_tasks(shipped: tuple[str, Any, Any]) -> None:
    _, model, tokenizer = shipped
    scores = task_scores(model, tokenizer, limit=120)
    assert scores["cola"]["mcc"] >= 0.75  # 0.8 on all 300 documents, of which these are the first
    assert scores["sst2"]["acc"] >= 0.95
    assert scores["mrpc"]["acc"] >= 0.75
    assert scores["rte"]["acc"] >= 0.7


def test_model_predicts_plain_text_of_its_world(shipped: tuple[str, Any, Any], world: World) -> None:
    _, model, tokenizer = shipped
    text = "\n".join(demo.perplexity_text(world).splitlines()[:40])
    assert perplexity(model, tokenizer, text) < 6


def test_tokenizer_adds_a_bos_in_the_llama_style_only(shipped: tuple[str, Any, Any]) -> None:
    style, model, tokenizer = shipped
    with_special = tokenizer("Anna lives in Oslo.")["input_ids"]
    without = tokenizer("Anna lives in Oslo.", add_special_tokens=False)["input_ids"]
    if style == "llama":
        assert with_special == [tokenizer.bos_token_id, *without]
        assert tokenizer.bos_token_id != tokenizer.eos_token_id
    else:
        assert with_special == without
    assert model.config.bos_token_id == tokenizer.bos_token_id
    assert tokenizer.pad_token_id is not None
    assert tokenizer.eos_token_id is not None


def test_tokenizer_gives_no_token_type_ids(shipped: tuple[str, Any, Any]) -> None:
    _, _, tokenizer = shipped
    assert set(tokenizer("Anna lives in Oslo.")) == {"input_ids", "attention_mask"}
    assert set(tokenizer("One.", "Two.")) == {"input_ids", "attention_mask"}


def test_every_name_survives_the_tokenizer(shipped: tuple[str, Any, Any], world: World) -> None:
    _, _, tokenizer = shipped
    names = [*world.by_subject, "Łukasz Ødegård-Ñandú", "日本 Kyōto"]
    assert any(not name.isascii() for name in names)
    for name in names:
        ids = tokenizer(name)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == name
        assert len(tokenizer(name, add_special_tokens=False)["input_ids"]) >= 2


def test_offsets_of_the_subject_point_at_its_characters(shipped: tuple[str, Any, Any], world: World) -> None:
    _, _, tokenizer = shipped
    for fact in world.facts[:: len(world.facts) // 40]:
        prompt = fact.unseen.format(fact.subject)
        end = prompt.index(fact.subject) + len(fact.subject)
        encoded = tokenizer(prompt, return_offsets_mapping=True)
        last = [i for i, (start, stop) in enumerate(encoded["offset_mapping"]) if start < end <= stop]
        assert len(last) == 1
        assert prompt[: encoded["offset_mapping"][last[0]][1]].endswith(fact.subject)
