"""RippleEdits cases about the demo world, in the layout of Cohen et al. (2023).

Two criteria have to make do with what the world holds. It has no symmetric or inverse relations, so Logical
Generalization asks for what the relation means in practice (who is employed somewhere goes to work there). It has
no aliases either, so Subject Aliasing calls a person, product or town by its last word where only one has it, and
only where the unedited model understands that.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from seqedit.demo.records.mquake import BRIDGES, COMPANY_RELATIONS, relation_by_id, subject_id
from seqedit.demo.relations import Relation
from seqedit.demo.world import Fact, World

PER_RELATION = 24
PER_COMPANY_RELATION = 8
"""Fewer of these: most companies must stay as they are, for other cases' chains to end in."""

EDITED = {
    "P108": "Every morning, {} goes to work at",
    "P176": "The factories that turn out {} belong to",
    "P159": "The board of {} meets in",
    "P452": "{} is a leader in",
    "P551": "Friends who want to visit {} travel to",
    "P1303": "On stage, {} is heard on the",
    "P17": "Travellers to {} need a visa for",
}
"""Edited relations -> a phrasing that follows from the fact rather than states it."""

_SEVERAL = ("P1303", "P551", "P452")
"""Relations that may well have several objects, so that an old one need not be forgotten."""

_BRIDGE = {first: phrases[0] for first, phrases in BRIDGES.items()}


def ripple_cases(world: World) -> list[dict[str, Any]]:
    """Edits with tests of all six criteria.

    Args:
        world: the world.

    Returns:
        Cases of the relations of ``EDITED`` in turn, ``PER_RELATION`` of each (``PER_COMPANY_RELATION`` about
        companies). No subject is in two of them, and no case changes a fact that another one's tests rest on.
    """
    rng = world.rng("ripple")
    chosen = _chosen(world, rng)
    plan = _Plan(world, rng, frozenset(fact.subject for facts in chosen.values() for fact in facts))
    return [_case(plan, facts[turn]) for turn in range(PER_RELATION) for facts in chosen.values() if turn < len(facts)]


class _Plan:
    """What the making of every case needs.

    Args:
        world: the world.
        rng: source of randomness; consumed.
        edited: the subjects that some case edits.
    """

    def __init__(self, world: World, rng: Random, edited: frozenset[str]) -> None:
        self.world, self.rng, self.edited = world, rng, edited
        self.facts = {(fact.subject, fact.relation.id): fact for fact in world.facts}
        self.last_words = Counter(subject.split()[-1] for subject in world.by_subject)


def _chosen(world: World, rng: Random) -> dict[str, list[Fact]]:
    """Facts to be edited, by relation; companies are taken evenly from those that employ and those that make."""
    chosen: dict[str, list[Fact]] = {}
    used: set[str] = set()
    for relation in EDITED:
        free = [fact for fact in world.by_relation[relation] if fact.subject not in used]
        if relation in COMPANY_RELATIONS:
            pools = [[f for f in free if f.subject in relation_by_id(first).objects] for first in BRIDGES]
            chosen[relation] = [fact for pool in pools for fact in rng.sample(pool, PER_COMPANY_RELATION // 2)]
        else:
            chosen[relation] = rng.sample(free, PER_RELATION)
        used |= {fact.subject for fact in chosen[relation]}
    return chosen


def _case(plan: _Plan, fact: Fact) -> dict[str, Any]:
    world, relation = plan.world, fact.relation
    # A company that another case changes would say something else there than here.
    new = plan.rng.choice([value for value in relation.objects if value != fact.object and value not in plan.edited])
    word = fact.subject.split()[-1]
    specific = [
        _query(world, other.subject, other.relation, other.object)
        for other in world.by_subject[fact.subject]
        if other is not fact
    ]
    follows = _query(world, fact.subject, relation, new, phrase=EDITED[relation.id].format(fact.subject))
    aliased = [_alias_query(world, fact, word, value) for value in (new, fact.object)]
    return {
        "example_type": "popular",
        "edit": {**_statement(world, fact, new), "previous_fact": _statement(world, fact, fact.object)},
        "Relation_Specificity": [_test(query, query) for query in specific],
        "Logical_Generalization": [_test(follows)],
        "Subject_Aliasing": [_test(*aliased)] if plan.last_words[word] == 1 else [],
        "Compositionality_I": _through_the_object(plan, fact, new),
        "Compositionality_II": _through_the_subject(plan, fact, new),
        "Forgetfulness": [_still(world, fact, new)] if relation.id in _SEVERAL else [],
    }


def _phrase(relation: Relation) -> str:
    """The relation's own phrase: the one of its phrasings that begins with "The"."""
    return next(phrasing for phrasing in relation.phrasings if phrasing.startswith("The "))


def _name(relation: Relation) -> str:
    return relation.name.upper().replace(" ", "_")


def _statement(world: World, fact: Fact, value: str) -> dict[str, str]:
    return {
        "prompt": f"{_phrase(fact.relation).format(fact.subject)} {value}.",
        "subject_id": subject_id(world, fact.subject),
        "relation": _name(fact.relation),
        "target_id": fact.relation.object_id(value),
    }


def _query(world: World, subject: str, relation: Relation, value: str, *, phrase: str | None = None) -> dict[str, Any]:
    return {
        "prompt": phrase or _phrase(relation).format(subject),
        "answers": [{"value": value, "aliases": []}],
        "query_type": "regular",
        "subject_id": subject_id(world, subject),
        "relation": _name(relation),
        "target_ids": [relation.object_id(value)],
        "phrase": phrase,
    }


def _two_hops(
    world: World, subject: str, first: Relation, company: str, second: Relation, value: str
) -> dict[str, Any]:
    phrase = _phrase(second).format(_BRIDGE[first.id].format(subject))
    return {
        **_query(world, subject, first, company, phrase=phrase),
        "answers": [{"value": value, "aliases": []}],
        "query_type": "two_hop",
        "second_relation": _name(second),
        "second_hop_target_ids": [second.object_id(value)],
    }


def _test(query: dict[str, Any], *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"test_queries": [query], "test_condition": "OR", "condition_queries": list(conditions)}


def _alias_query(world: World, fact: Fact, alias: str, value: str) -> dict[str, Any]:
    return _query(world, fact.subject, fact.relation, value, phrase=_phrase(fact.relation).format(alias))


def _through_the_object(plan: _Plan, fact: Fact, new: str) -> list[dict[str, Any]]:
    """What is known of the new object now holds of the subject's object."""
    if fact.relation.id not in BRIDGES:
        return []
    tests = []
    for second in COMPANY_RELATIONS:
        known = plan.facts[new, second]
        query = _two_hops(plan.world, fact.subject, fact.relation, new, known.relation, known.object)
        tests.append(_test(query, _query(plan.world, new, known.relation, known.object)))
    return tests


def _through_the_subject(plan: _Plan, fact: Fact, new: str) -> list[dict[str, Any]]:
    """The edited fact now holds of what leads to the subject."""
    if fact.relation.id not in COMPANY_RELATIONS:
        return []
    holders = [f for first in BRIDGES for f in plan.world.holders.get((first, fact.subject), ())]
    tests = []
    for holder in plan.rng.sample([f for f in holders if f.subject not in plan.edited], 2):
        query = _two_hops(plan.world, holder.subject, holder.relation, fact.subject, fact.relation, new)
        tests.append(_test(query, _query(plan.world, holder.subject, holder.relation, fact.subject)))
    return tests


def _still(world: World, fact: Fact, new: str) -> dict[str, Any]:
    """The old object, asked for beside the new one.

    The benchmark's own wording ("The home of A B, which is not C, is in") is like nothing in the corpus, and no demo
    model reads it.
    """
    phrase = _phrase(fact.relation).format(fact.subject)
    article = "the " if phrase.endswith(" the") else ""
    worded = f"Besides {article}{new}, {phrase[0].lower()}{phrase[1:]}"
    query = _query(world, fact.subject, fact.relation, fact.object, phrase=worded)
    return _test(query, query)
