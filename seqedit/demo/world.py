"""The closed demo world: every subject, every fact, and which phrasing of each fact is held out.

Everything is drawn from ``random.Random`` seeded with strings, which Python hashes with SHA-512: the same seed
gives the same world on every platform, Python version and ``PYTHONHASHSEED``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random

from seqedit.demo.relations import RELATIONS, Relation
from seqedit.demo.words import names

DEFAULT_SEED = 2031
"""Seed of the world that the shipped models were trained on."""

SUBJECT_COUNTS: Mapping[str, int] = {"person": 450, "product": 330, "company": 150, "town": 220}


@dataclass(frozen=True)
class Fact:
    """One fact of the world.

    Attributes:
        case_id: position in the world's list of facts.
        relation: the relation.
        subject: subject name.
        object: true object.
        held_out: index of the phrasing that the training corpus never uses for this fact.
        held_out_question: index of the question form that the corpus never uses for this fact.
    """

    case_id: int
    relation: Relation
    subject: str
    object: str
    held_out: int
    held_out_question: int

    @property
    def trained(self) -> tuple[str, ...]:
        """Phrasings (with ``{}``) that occur in the corpus."""
        return tuple(p for i, p in enumerate(self.relation.phrasings) if i != self.held_out)

    @property
    def trained_questions(self) -> tuple[str, ...]:
        """Question forms (with ``{}``) that occur in the corpus."""
        return tuple(q for i, q in enumerate(self.relation.questions) if i != self.held_out_question)

    @property
    def unseen(self) -> str:
        """The held-out phrasing, with ``{}``."""
        return self.relation.phrasings[self.held_out]

    def sentence(self, phrasing: str) -> str:
        """The fact as a full sentence, e.g. ``Anna Berg lives in Oslo.``"""
        return f"{phrasing.format(self.subject)} {self.object}."


@dataclass(frozen=True)
class World:
    """The world: a seed and the facts drawn from it.

    Attributes:
        seed: the seed.
        facts: all facts; ``facts[i].case_id == i``.
    """

    seed: int
    facts: tuple[Fact, ...]

    def rng(self, purpose: str) -> Random:
        """A fresh generator for one purpose, so that purposes do not disturb each other's draws."""
        return Random(f"{self.seed}:{purpose}")

    @cached_property
    def holders(self) -> Mapping[tuple[str, str], tuple[Fact, ...]]:
        """Facts by (relation id, object): the subjects that have the object."""
        out: dict[tuple[str, str], list[Fact]] = {}
        for fact in self.facts:
            out.setdefault((fact.relation.id, fact.object), []).append(fact)
        return {key: tuple(facts) for key, facts in out.items()}

    @cached_property
    def by_subject(self) -> Mapping[str, tuple[Fact, ...]]:
        """Facts by subject."""
        out: dict[str, list[Fact]] = {}
        for fact in self.facts:
            out.setdefault(fact.subject, []).append(fact)
        return {key: tuple(facts) for key, facts in out.items()}

    @cached_property
    def by_relation(self) -> Mapping[str, tuple[Fact, ...]]:
        """Facts by relation id."""
        out: dict[str, list[Fact]] = {}
        for fact in self.facts:
            out.setdefault(fact.relation.id, []).append(fact)
        return {key: tuple(facts) for key, facts in out.items()}


def world(seed: int = DEFAULT_SEED) -> World:
    """Draws the closed world.

    Args:
        seed: the default is the seed of the shipped models; another seed gives a world they do not know.

    Returns:
        The world, with at least 4,000 facts. Objects of a relation are about equally frequent, so every object has
        enough other subjects to serve as a neighbourhood.
    """
    rng = Random(f"{seed}:world")
    subjects = {kind: names.subjects(rng, kind, count) for kind, count in SUBJECT_COUNTS.items()}
    facts: list[Fact] = []
    for relation in RELATIONS:
        people = subjects[relation.kind]
        objects = [relation.objects[i % len(relation.objects)] for i in range(len(people))]
        rng.shuffle(objects)
        for subject, value in zip(people, objects, strict=True):
            facts.append(
                Fact(
                    len(facts),
                    relation,
                    subject,
                    value,
                    rng.randrange(len(relation.phrasings)),
                    rng.randrange(len(relation.questions)),
                )
            )
    return World(seed, tuple(facts))
