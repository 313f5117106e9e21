"""CounterFact records and reference texts about the demo world, in the original layout of Meng et al. (2022).

Source of the layout: "Locating and Editing Factual Associations in GPT", section 3.4 and appendix D.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Any

from seqedit.demo.relations import Relation
from seqedit.demo.words import filler
from seqedit.demo.world import Fact, World

NEIGHBORS = 10
REFERENCE_TEXTS = 6


def _target(relation: Relation, value: str) -> dict[str, str]:
    return {"str": value, "id": relation.object_id(value)}


def _about(rng: Random, holders: tuple[Fact, ...], avoided: Collection[str]) -> list[str]:
    """Prompts, in phrasings the model was trained on, about other subjects that have one object."""
    others = [fact for fact in holders if fact.subject not in avoided]
    chosen = rng.sample(others, min(NEIGHBORS, len(others)))
    return [rng.choice(fact.trained).format(fact.subject) for fact in chosen]


def record(
    world: World,
    fact: Fact,
    rng: Random,
    target_new: str,
    *,
    case_id: int | None = None,
    target_true: str | None = None,
    avoided: Collection[str] = (),
) -> dict[str, Any]:
    """One CounterFact record that asks for a change of one fact.

    The rewritten prompt is a phrasing that the model was trained on. The two paraphrases are the held-out phrasing
    and a trained one; one of them stands after an unrelated sentence.

    Args:
        world: the world.
        fact: the fact to change.
        rng: source of randomness; consumed.
        target_new: the object to teach; another object of the relation.
        case_id: default: the fact's.
        target_true: the object that holds before the change, default: the fact's; differs in later changes.
        avoided: subjects not to be used as neighbours, because they change too.

    Returns:
        The record; target strings have no leading space.
    """
    relation = fact.relation
    true = target_true or fact.object
    rewrite, other, *rest = rng.sample(fact.trained, len(fact.trained))
    paraphrases = [fact.unseen.format(fact.subject), other.format(fact.subject)]
    rng.shuffle(paraphrases)
    paraphrases[0] = f"{filler.sentence(rng)} {paraphrases[0]}"
    avoided = {*avoided, fact.subject}
    return {
        "case_id": fact.case_id if case_id is None else case_id,
        "pararel_idx": fact.case_id,
        "requested_rewrite": {
            "prompt": rewrite,
            "relation_id": relation.id,
            "target_new": _target(relation, target_new),
            "target_true": _target(relation, true),
            "subject": fact.subject,
        },
        "paraphrase_prompts": paraphrases,
        "neighborhood_prompts": _about(rng, world.holders[relation.id, true], avoided),
        "attribute_prompts": _about(rng, world.holders[relation.id, target_new], avoided),
        "generation_prompts": [phrasing.format(fact.subject) for phrasing in (*rest, relation.topic)],
    }


def records(world: World) -> list[dict[str, Any]]:
    """A CounterFact record for every fact, in the order of the facts.

    Args:
        world: the world.

    Returns:
        Records in the original layout, with up to six ``reference_texts`` for the RS score in each.
    """
    rng = world.rng("counterfact")
    texts = reference_texts(world)
    out = []
    for fact in world.facts:
        new = rng.choice([value for value in fact.relation.objects if value != fact.object])
        made = record(world, fact, rng, new)
        made["reference_texts"] = texts[fact.relation.object_id(new)]
        out.append(made)
    return out


def reference_texts(world: World) -> dict[str, list[str]]:
    """Texts about subjects that have an object, for the RS score (CounterFact's attribute snippets).

    Args:
        world: the world.

    Returns:
        Object id (``requested_rewrite.target_new.id``) to up to six short texts; each states the object for one
        subject, and one more fact about that subject.
    """
    rng = world.rng("reference texts")
    out: dict[str, list[str]] = {}
    for (_, value), holders in world.holders.items():
        texts = []
        for fact in rng.sample(holders, min(REFERENCE_TEXTS, len(holders))):
            first = fact.sentence(rng.choice(fact.trained))
            more = rng.choice([f for f in world.by_subject[fact.subject] if f is not fact])
            texts.append(f"{first} {more.sentence(rng.choice(more.trained))}")
        out[holders[0].relation.object_id(value)] = texts
    return out
