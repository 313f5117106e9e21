"""CounterFact, zsRE, timeline and task records about the world."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from seqedit import demo
from seqedit.demo.tasks import prompt_text
from seqedit.demo.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return demo.world()


@pytest.fixture(scope="module")
def records(world: World) -> list[dict[str, Any]]:
    return demo.records(world)


def _subjects_with(world: World, relation: str, value: str) -> list[str]:
    return [fact.subject for fact in world.holders[relation, value]]


def _check_record(world: World, record: dict[str, Any]) -> None:
    rewrite = record["requested_rewrite"]
    new, true = rewrite["target_new"], rewrite["target_true"]
    assert rewrite["prompt"].count("{}") == 1
    assert new["str"] != true["str"]
    assert new["id"] != true["id"]
    assert not new["str"].startswith(" ")
    assert len(record["paraphrase_prompts"]) >= 2
    prompt = rewrite["prompt"].format(rewrite["subject"])
    assert all(rewrite["subject"] in p and p != prompt for p in record["paraphrase_prompts"])
    assert all(rewrite["subject"] in p for p in record["generation_prompts"])
    for field, value in (("neighborhood_prompts", true["str"]), ("attribute_prompts", new["str"])):
        assert 5 <= len(record[field]) <= 10
        holders = _subjects_with(world, rewrite["relation_id"], value)
        for near in record[field]:
            assert any(subject in near for subject in holders if subject != rewrite["subject"])


def test_every_fact_has_a_valid_counterfact_record(world: World, records: list[dict[str, Any]]) -> None:
    assert [record["case_id"] for record in records] == list(range(len(world.facts)))
    for fact, record in zip(world.facts, records, strict=True):
        rewrite = record["requested_rewrite"]
        assert (rewrite["subject"], rewrite["target_true"]["str"]) == (fact.subject, fact.object)
        assert set(record) >= {"pararel_idx", "attribute_prompts", "reference_texts"}
        _check_record(world, record)


def test_rewritten_prompt_was_trained_and_a_paraphrase_was_not(world: World, records: list[dict[str, Any]]) -> None:
    for fact, record in zip(world.facts, records, strict=True):
        assert record["requested_rewrite"]["prompt"] in fact.trained
        unseen = fact.unseen.format(fact.subject)
        assert sum(p.endswith(unseen) for p in record["paraphrase_prompts"]) == 1


def test_exactly_one_paraphrase_follows_an_unrelated_sentence(records: list[dict[str, Any]]) -> None:
    for record in records:
        assert sum(". " in p for p in record["paraphrase_prompts"]) == 1


def test_reference_texts_state_the_object_of_their_key(world: World) -> None:
    texts = demo.reference_texts(world)
    for (relation, value), holders in world.holders.items():
        found = texts[holders[0].relation.object_id(value)]
        assert len(found) >= 5
        for text in found:
            assert any(text.startswith(f.sentence(p)) for f in world.holders[relation, value] for p in f.trained)


def test_zsre_records_ask_about_the_fact_and_about_another_subject(world: World) -> None:
    answers = {(q.format(f.subject), f.object) for f in world.facts for q in f.trained_questions}
    lowered = {("nq question: " + q[0].lower() + q[1:-1], answer) for q, answer in answers}
    for fact, record in zip(world.facts, demo.zsre_records(world), strict=True):
        assert set(record) == {"subject", "src", "pred", "rephrase", "alt", "answers", "loc", "loc_ans", "cond"}
        assert (record["src"], record["answers"][0]) in answers
        assert record["alt"] not in record["answers"]
        assert record["rephrase"] != record["src"]
        assert fact.subject not in record["loc"]
        assert (record["loc"], record["loc_ans"]) in lowered


def test_timeline_is_dated_in_order_and_changes_some_facts_more_than_once(world: World) -> None:
    batches = demo.timeline(world)
    dates = [batch["date"] for batch in batches]
    assert dates == sorted(set(dates))
    seen: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for batch in batches:
        keys = set()
        for record in batch["records"]:
            rewrite = record["requested_rewrite"]
            key = (rewrite["subject"], rewrite["relation_id"])
            assert key not in keys, "a batch must not contradict itself"
            keys.add(key)
            seen.setdefault(key, []).append(rewrite)
    assert sum(len(changes) > 1 for changes in seen.values()) >= 20
    assert any(len(changes) > 2 for changes in seen.values())
    original = {(f.subject, f.relation.id): f.object for f in world.facts}
    for key, changes in seen.items():
        assert changes[0]["target_true"]["str"] == original[key]
        for before, after in itertools.pairwise(changes):
            assert after["target_true"] == before["target_new"]


def test_timeline_records_are_valid_and_no_neighbour_changes(world: World) -> None:
    batches = demo.timeline(world)
    records = [record for batch in batches for record in batch["records"]]
    changed = {record["requested_rewrite"]["subject"] for record in records}
    assert len({record["case_id"] for record in records}) == len(records)
    assert not {record["case_id"] for record in records} & {fact.case_id for fact in world.facts}
    for record in records:
        _check_record(world, record)
        assert not any(subject in p for p in record["neighborhood_prompts"] for subject in changed)


@pytest.mark.parametrize("name", demo.TASKS)
def test_task_splits_are_disjoint_balanced_and_have_glue_columns(world: World, name: str) -> None:
    train, validation = (demo.task_documents(world, name, split) for split in ("train", "validation"))
    columns = {"sentence"} if name in ("cola", "sst2") else {"sentence1", "sentence2"}
    assert all(set(doc) == columns | {"label", "idx"} for doc in train + validation)
    assert not {prompt_text(name, doc) for doc in train} & {prompt_text(name, doc) for doc in validation}
    assert 200 <= len(validation) <= 300
    assert 0.35 <= sum(int(doc["label"]) for doc in validation) / len(validation) <= 0.65
    assert [doc["idx"] for doc in validation] == list(range(len(validation)))


@pytest.mark.parametrize("name", demo.TASKS)
def test_validation_documents_are_in_no_draw_of_the_corpus(world: World, name: str) -> None:
    prompts = {prompt_text(name, doc) for doc in demo.task_documents(world, name)}
    for variant in (0, 1, 4, 1000):
        assert not prompts & set(demo.corpus(world, variant))


def test_unacceptable_sentences_differ_from_every_acceptable_one(world: World) -> None:
    good = {fact.sentence(p) for fact in world.facts for p in fact.relation.phrasings}
    for doc in demo.task_documents(world, "cola"):
        assert (doc["sentence"] in good) == bool(doc["label"])


def test_unknown_names_are_refused_with_the_choices(world: World) -> None:
    with pytest.raises(ValueError, match="cola, sst2, mrpc, rte"):
        demo.task_documents(world, "qnli")
    with pytest.raises(ValueError, match="train, validation"):
        demo.task_documents(world, "cola", "test")
    with pytest.raises(ValueError, match="gpt2, llama"):
        demo.model_path("bert")


def test_records_survive_json(records: list[dict[str, Any]]) -> None:
    assert json.loads(json.dumps(records[:50], ensure_ascii=False)) == records[:50]
