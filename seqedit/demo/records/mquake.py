"""MQuAKE cases about the demo world, in the layout of Zhong et al. (2023).

The world's chains have two hops: a person or a product, the company behind it, and that company's headquarters or
industry. Edited is which company it is, what holds of the company, or both.
"""

from __future__ import annotations

from random import Random
from typing import Any

from seqedit.demo.relations import RELATIONS, Relation
from seqedit.demo.world import Fact, World

CASES = 240

BRIDGES = {
    "P108": ("the employer of {}", "the company that {} works for", "the company that pays {}"),
    "P176": ("the maker of {}", "the company that builds {}", "the company that makes {}"),
}
"""Relation to a company -> noun phrases for that company, to be put into a question about it."""

COMPANY_RELATIONS = ("P159", "P452")

_BY_ID = {relation.id: relation for relation in RELATIONS}


class Chains:
    """Which facts of companies change, and to what: the same in all cases, so that any cases can be edited together.

    Args:
        world: the world.
        rng: source of randomness; consumed.
    """

    def __init__(self, world: World, rng: Random) -> None:
        self.world = world
        self.facts = {(fact.subject, fact.relation.id): fact for fact in world.facts}
        self.new: dict[tuple[str, str], str] = {}
        self.worded: dict[int, tuple[str, str]] = {}
        for first in BRIDGES:
            for second in COMPANY_RELATIONS:
                companies = list(_BY_ID[first].objects)
                rng.shuffle(companies)
                for company in companies[: len(companies) // 2]:
                    fact = self.facts[company, second]
                    self.new[company, second] = rng.choice([o for o in fact.relation.objects if o != fact.object])

    def wording(self, fact: Fact, rng: Random) -> tuple[str, str]:
        """Question form and phrasing of a fact, both trained; a fact has the same in all cases, as in MQuAKE."""
        drawn = rng.choice(fact.trained_questions), rng.choice(fact.trained)
        return self.worded.setdefault(fact.case_id, drawn)

    def end(self, company: str, relation: str) -> str:
        """What holds of a company once its fact, if it is one that changes, has changed."""
        return self.new.get((company, relation), self.facts[company, relation].object)


def mquake_cases(world: World) -> list[dict[str, Any]]:
    """Cases of two hops, with one or two edits each.

    Args:
        world: the world.

    Returns:
        ``CASES`` cases in the original layout, a third each with the first fact edited, the second, and both. No person
        or product is in two cases, and no case changes a fact that another one needs as it was: any of them can be
        edited together.
    """
    rng = world.rng("mquake")
    chains = Chains(world, rng)
    firsts = {first: rng.sample(world.by_relation[first], len(world.by_relation[first])) for first in BRIDGES}
    plan = [(first, second, kind) for first in BRIDGES for second in COMPANY_RELATIONS for kind in range(3)]
    cases = []
    for number in range(CASES):
        first, second, kind = plan[number % len(plan)]
        cases.append(_case(chains, rng, number, firsts[first], second, kind))
    return cases


def _case(chains: Chains, rng: Random, number: int, firsts: list[Fact], second: str, kind: int) -> dict[str, Any]:
    for at, fact in enumerate(firsts):
        chosen = _new_company(chains, rng, fact, second, kind)
        if chosen is not None:
            del firsts[at]
            return _row(chains, rng, number, fact, chosen, second)
    raise AssertionError("the world has too few people or products for so many cases")


def _new_company(chains: Chains, rng: Random, fact: Fact, second: str, kind: int) -> str | None:
    """The company after the edits of a kind of case (0: it changes, 1: its fact, 2: both); None if none fits."""
    old = chains.facts[fact.object, second].object
    if kind == 1:
        return fact.object if (fact.object, second) in chains.new else None
    fitting = [
        company
        for company in fact.relation.objects
        if company != fact.object
        and ((company, second) in chains.new) == (kind == 2)
        and chains.end(company, second) != old
    ]
    return rng.choice(fitting) if fitting else None


def _row(chains: Chains, rng: Random, number: int, fact: Fact, company: str, second: str) -> dict[str, Any]:
    before, after = chains.facts[fact.object, second], chains.facts[company, second]
    relation, answer = before.relation, chains.end(company, second)
    hop, new_hop = _hop(chains, fact, fact.object, rng), _hop(chains, after, answer, rng)
    rewrites = []
    if company != fact.object:
        rewrites.append(_rewrite(fact, company, hop))
    if answer != after.object:
        rewrites.append(_rewrite(after, answer, new_hop))
    questions = [
        question.format(bridge.format(fact.subject))
        for question, bridge in zip(relation.questions, rng.sample(BRIDGES[fact.relation.id], 3), strict=True)
    ]
    return {
        "case_id": number,
        "requested_rewrite": rewrites,
        "questions": questions,
        "answer": before.object,
        "answer_alias": [],
        "new_answer": answer,
        "new_answer_alias": [],
        "single_hops": [hop, _hop(chains, before, before.object, rng)],
        "new_single_hops": [hop | {"answer": company}, new_hop],
        "orig": _triples(chains.world, fact, company, before, after, answer),
    }


def _hop(chains: Chains, fact: Fact, answer: str, rng: Random) -> dict[str, Any]:
    question, phrasing = (text.format(fact.subject) for text in chains.wording(fact, rng))
    return {"question": question, "cloze": phrasing, "answer": answer, "answer_alias": []}


def _rewrite(fact: Fact, new: str, hop: dict[str, Any]) -> dict[str, Any]:
    relation = fact.relation
    return {
        "prompt": next(p for p in relation.phrasings if p.format(fact.subject) == hop["cloze"]),
        "relation_id": relation.id,
        "target_new": {"str": new, "id": relation.object_id(new)},
        "target_true": {"str": fact.object, "id": relation.object_id(fact.object)},
        "subject": fact.subject,
        "question": hop["question"],
    }


def _triples(world: World, fact: Fact, company: str, before: Fact, after: Fact, answer: str) -> dict[str, Any]:
    first, second = fact.relation, before.relation
    subject = subject_id(world, fact.subject)

    def chain(bridge: str, end: str) -> list[list[str]]:
        return [
            [subject, first.id, first.object_id(bridge)],
            [first.object_id(bridge), second.id, second.object_id(end)],
        ]

    def labeled(bridge: str, end: str) -> list[list[str]]:
        return [[fact.subject, first.name, bridge], [bridge, second.name, end]]

    old, new = chain(fact.object, before.object), chain(company, answer)
    changed = ([new[0]] if company != fact.object else []) + ([new[1]] if answer != after.object else [])
    return {
        "triples": old,
        "triples_labeled": labeled(fact.object, before.object),
        "new_triples": new,
        "new_triples_labeled": labeled(company, answer),
        "edit_triples": changed,
    }


def subject_id(world: World, subject: str) -> str:
    """Identifier of a subject: that of the object if it is one as well, so that chains connect."""
    for relation in (_BY_ID[first] for first in BRIDGES):
        if subject in relation.objects:
            return relation.object_id(subject)
    return f"S{list(world.by_subject).index(subject):04d}"


def relation_by_id(relation_id: str) -> Relation:
    """The relation of a Wikidata property id."""
    return _BY_ID[relation_id]
