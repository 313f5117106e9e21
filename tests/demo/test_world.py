"""The generated world: size, neighbourhoods, held-out phrasings, determinism."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqedit import demo
from seqedit.demo.world import Fact, World

WORLD_DIGEST = "39257aca79df858f739534cce90bf182d4ce9d8a6051e17af16be19f70ef6f69"
HASH = """
import hashlib, json, sys
from seqedit import demo
w = demo.world()
parts = [demo.corpus(w), demo.records(w), demo.zsre_records(w), demo.timeline(w), demo.reference_texts(w),
         demo.perplexity_text(w), [demo.task_documents(w, t, s) for t in demo.TASKS for s in ("train", "validation")]]
print(hashlib.sha256(json.dumps(parts).encode()).hexdigest(), "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def world() -> World:
    return demo.world()


@pytest.fixture(scope="module")
def corpus_text(world: World) -> str:
    return "\n".join(demo.corpus(world))


def test_same_seed_gives_the_same_world_under_any_hash_seed_and_needs_no_torch() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", HASH],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1
    assert outputs.pop().endswith(" False")


def test_default_world_is_the_one_the_shipped_models_were_trained_on(world: World) -> None:
    listing = "\n".join(f"{f.relation.id}|{f.subject}|{f.object}|{f.held_out}" for f in world.facts)
    assert hashlib.sha256(listing.encode()).hexdigest() == WORLD_DIGEST


def test_another_seed_gives_another_world(world: World) -> None:
    assert [f.object for f in demo.world(7).facts] != [f.object for f in world.facts]


def test_world_has_4000_facts_9_relations_and_4_to_6_phrasings_each(world: World) -> None:
    assert len(world.facts) >= 4000
    assert len({f.relation.id for f in world.facts}) >= 9
    for relation in demo.RELATIONS:
        assert 4 <= len(relation.phrasings) <= 6
        assert all(p.count("{}") == 1 and not p.endswith(("{}", " ")) for p in relation.phrasings)
        assert any(p.startswith("{}") for p in relation.phrasings)
        assert any(not p.startswith("{}") for p in relation.phrasings)
        assert all(q.count("{}") == 1 and q.endswith("?") for q in relation.questions)


def test_subject_and_relation_name_one_fact(world: World) -> None:
    assert len({(f.subject, f.relation.id) for f in world.facts}) == len(world.facts)
    assert [f.case_id for f in world.facts] == list(range(len(world.facts)))


def test_every_object_has_at_least_ten_other_subjects(world: World) -> None:
    assert min(len(holders) for holders in world.holders.values()) >= 11


def test_names_share_first_words_and_some_share_last_words(world: World) -> None:
    firsts: dict[str, set[str]] = {}
    lasts: dict[str, set[str]] = {}
    for subject in world.by_subject:
        assert " " in subject
        firsts.setdefault(subject.split()[0], set()).add(subject)
        lasts.setdefault(subject.split()[-1], set()).add(subject)
    total = len(world.by_subject)
    assert sum(len(subjects) for subjects in firsts.values() if len(subjects) > 1) >= 0.9 * total
    assert sum(len(subjects) for subjects in lasts.values() if len(subjects) > 1) >= 0.1 * total


def test_some_names_are_not_ascii(world: World) -> None:
    assert sum(not subject.isascii() for subject in world.by_subject) >= 50
    assert any(not fact.object.isascii() for fact in world.facts)


def _said(fact: Fact, template: str) -> str:
    return template.format(fact.subject) + " " + fact.object


@pytest.mark.parametrize("variant", [0, 1])
def test_held_out_phrasing_and_question_are_absent_from_the_corpus(world: World, variant: int) -> None:
    by_subject: dict[str, list[str]] = {}
    words = {
        subject.split()[0]: [s for s in world.by_subject if s.startswith(subject.split()[0] + " ")]
        for subject in world.by_subject
    }
    for document in demo.corpus(world, variant):
        for word in {word for word in document.replace("\n", " ").split(" ") if word in words}:
            for subject in words[word]:
                if subject in document:
                    by_subject.setdefault(subject, []).append(document)
    assert len(by_subject) == len(world.by_subject)
    for fact in world.facts:
        text = "\n".join(by_subject[fact.subject])
        assert fact.unseen.format(fact.subject) not in text
        assert fact.relation.questions[fact.held_out_question].format(fact.subject) not in text


def test_other_phrasings_and_one_question_are_in_the_corpus(world: World, corpus_text: str) -> None:
    for fact in world.facts[::7]:
        assert len(fact.trained) == len(fact.relation.phrasings) - 1
        assert all(_said(fact, phrasing) in corpus_text for phrasing in fact.trained)
        assert any(_said(fact, question) in corpus_text for question in fact.trained_questions)


def test_corpus_states_no_false_fact(world: World, corpus_text: str) -> None:
    for fact in world.facts[::13]:
        start = fact.trained[0].format(fact.subject) + " "
        after = [part[: len(fact.object)] for part in corpus_text.split(start)[1:]]
        # Missing and doubled words of unacceptable sentences apart, only the true object follows.
        wrong = [part for part in after if any(part.startswith(o) for o in fact.relation.objects if o != fact.object)]
        assert after
        assert not wrong


def test_facts_stand_both_first_in_a_document_and_after_other_sentences(world: World) -> None:
    documents = [document for variant in range(3) for document in demo.corpus(world, variant)]
    for fact in world.facts[::600]:
        sentences = [fact.sentence(p) for p in fact.trained]
        assert any(document.startswith(s) for document in documents for s in sentences)
        assert any(s in document and not document.startswith(s) for document in documents for s in sentences)


def test_perplexity_text_is_plain_and_held_out(world: World, corpus_text: str) -> None:
    paragraphs = demo.perplexity_text(world).splitlines()
    assert sum(map(len, paragraphs)) >= 10_000
    assert not any("question" in p.lower() for p in paragraphs)
    long = [p for p in paragraphs if p.count(".") > 2]
    assert len(long) >= 20
    assert not any(p in corpus_text for p in long)


def test_write_world_leaves_all_files(tmp_path: Path) -> None:
    demo.write_world(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    tasks = {f"tasks/{name}.jsonl" for name in demo.TASKS}
    assert found == tasks | {
        "corpus.txt",
        "counterfact.json",
        "zsre.json",
        "mquake.json",
        "ripple.json",
        "timeline.json",
        "reference_texts.json",
        "perplexity.txt",
    }
    assert len((tmp_path / "corpus.txt").read_text(encoding="utf-8").splitlines()) == len(demo.corpus(demo.world()))
