"""CoLA-, SST-2-, MRPC- and RTE-layout documents about the demo world, with GLUE's column names.

All stated facts are true, also in negative examples: the tasks must not teach the model false facts. A document
belongs to the validation split if its first fact (or subject) is one of every tenth, so the splits are disjoint
by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from seqedit.demo.relations import RELATIONS
from seqedit.demo.words import filler, sentiment
from seqedit.demo.words.grammar import EASY_FIRST, EVEN, broken, units_of
from seqedit.demo.world import Fact, World

Document = dict[str, str | int]

TASKS = ("cola", "sst2", "mrpc", "rte")
CHOICES: Mapping[str, tuple[str, str]] = {
    "cola": ("no", "yes"),
    "sst2": ("negative", "positive"),
    "mrpc": ("no", "yes"),
    "rte": ("True", "False"),
}
"""Answer for each label, as in lm-eval's GLUE tasks."""

_PROMPTS: Mapping[str, str] = {
    "cola": "{sentence}\nQuestion: Does this sentence make sense?\nAnswer:",
    "sst2": "{sentence}\nQuestion: Is this sentence positive or negative?\nAnswer:",
    "mrpc": "Sentence 1: {sentence1}\nSentence 2: {sentence2}\nQuestion: Do both sentences mean the same thing?"
    "\nAnswer:",
    "rte": "{sentence1}\nQuestion: {sentence2} True or False?\nAnswer:",
}
TRAIN_SIZES: Mapping[str, int] = {"cola": 12000, "sst2": 900, "mrpc": 3000, "rte": 3000}
"""Documents in one draw of the corpus: about a third of its tokens."""
EASY_DRAWS = 4
"""In the first draws most broken CoLA sentences are of the kinds that are learnt first."""
VALIDATION_SIZES: Mapping[str, int] = {"cola": 300, "sst2": 240, "mrpc": 240, "rte": 240}
_EVERY = 10


def prompt_text(name: str, document: Document) -> str:
    """The document with its answer, exactly as lm-eval 0.4.13 lays it out.

    Args:
        name: one of ``TASKS``.
        document: a document of that task.

    Returns:
        Prompt, a space, and the right choice.
    """
    return _PROMPTS[name].format(**document) + " " + CHOICES[name][int(document["label"])]


def _pick(world: World, rng: Random, split: str) -> Fact:
    """A fact of the split's share of the world."""
    while True:
        fact = rng.choice(world.facts)
        if (fact.case_id % _EVERY == 0) == (split == "validation"):
            return fact


_OPENERS = frozenset(p.split(" ", 1)[0] for relation in RELATIONS for p in relation.phrasings) - {"{}"}


def _say(rng: Random, fact: Fact, other_than: str = "") -> tuple[str, str]:
    """A trained phrasing of the fact and the sentence made with it."""
    phrasing = rng.choice([p for p in fact.trained if p != other_than])
    return phrasing, fact.sentence(phrasing)


def _sibling(world: World, rng: Random, fact: Fact) -> Fact:
    """Another fact: of the same subject, or of another subject with the same relation and another object."""
    same_subject = [f for f in world.by_subject[fact.subject] if f.relation != fact.relation]
    if rng.random() < 0.4:
        return rng.choice(same_subject)
    return rng.choice([f for f in world.by_relation[fact.relation.id] if f.object != fact.object])


def _cola(world: World, rng: Random, split: str, variant: int) -> Document:
    fact = _pick(world, rng, split)
    label = rng.randrange(2)
    while True:
        # Everyday sentences carry no fact that could separate the splits, so they are for training only.
        if split == "train" and rng.random() < 0.2:
            units, kept = filler.clause(rng).split(" "), frozenset[str]()
        else:
            units = units_of(rng.choice(fact.trained), fact.subject, fact.object)
            kept = frozenset((fact.subject, fact.object))
        text = (
            " ".join(units) + "."
            if label
            else broken(rng, units, kept, EASY_FIRST if variant < EASY_DRAWS and split == "train" else EVEN)
        )
        if text is not None:
            return {"sentence": text, "label": label}


def _sst2(world: World, rng: Random, split: str, variant: int) -> Document:
    label = rng.randrange(2)
    subjects = list(world.by_subject)
    while True:
        at = rng.randrange(len(subjects))
        if (at % _EVERY == 0) == (split == "validation"):
            return {"sentence": sentiment.opinion(rng, subjects[at], bool(label)), "label": label}


_DENIALS = ("It is not true that", "It is false that", "Nobody would say that")
_AFFIRMATIONS = ("It is true that", "Everybody would say that")


def _framed(rng: Random, frames: tuple[str, ...], sentence: str) -> str:
    """The sentence as the clause of a frame that affirms or denies it."""
    start = sentence.split(" ", 1)[0]
    # Names keep their capital; the phrasings' own first words do not.
    clause = sentence[0].lower() + sentence[1:] if start in _OPENERS else sentence
    return f"{rng.choice(frames)} {clause}"


def _contrast(world: World, rng: Random, fact: Fact, phrasing: str, same: bool) -> str:
    """A second sentence that says the same as the fact in another phrasing, or does not.

    What does not is a denial of the same fact, or another fact. A quarter of what does is framed as well, so that it
    is the denial and not the frame that tells.
    """
    if same:
        text = _say(rng, fact, other_than=phrasing)[1]
        return _framed(rng, _AFFIRMATIONS, text) if rng.random() < 0.25 else text
    if rng.random() < 0.5:
        return _framed(rng, _DENIALS, _say(rng, fact, other_than=phrasing)[1])
    return _say(rng, _sibling(world, rng, fact))[1]


def _mrpc(world: World, rng: Random, split: str, variant: int) -> Document:
    fact = _pick(world, rng, split)
    label = rng.randrange(2)
    phrasing, first = _say(rng, fact)
    second = _contrast(world, rng, fact, phrasing, same=bool(label))
    return {"sentence1": first, "sentence2": second, "label": label}


def _rte(world: World, rng: Random, split: str, variant: int) -> Document:
    fact = _pick(world, rng, split)
    label = rng.randrange(2)  # 0 is entailed, as in GLUE
    phrasing, first = _say(rng, fact)
    premise = [first, filler.sentence(rng)]
    rng.shuffle(premise)
    hypothesis = _contrast(world, rng, fact, phrasing, same=not label)
    return {"sentence1": " ".join(premise), "sentence2": hypothesis, "label": label}


_MAKERS: Mapping[str, Callable[[World, Random, str, int], Document]] = {
    "cola": _cola,
    "sst2": _sst2,
    "mrpc": _mrpc,
    "rte": _rte,
}


def _documents(world: World, name: str, split: str, count: int, variant: int) -> list[Document]:
    rng = world.rng(f"{name}:{split}:{variant}")
    out: dict[str, Document] = {}
    while len(out) < count:
        document = _MAKERS[name](world, rng, split, variant)
        out.setdefault(_PROMPTS[name].format(**document), document)
    return [{**document, "idx": idx} for idx, document in enumerate(out.values())]


def train_documents(world: World, name: str, variant: int = 0) -> list[Document]:
    """Training documents of one task, as mixed into draw ``variant`` of the corpus.

    Args:
        world: the world.
        name: one of ``TASKS``.
        variant: the corpus' draw.

    Returns:
        Distinct documents with GLUE's columns.
    """
    return _documents(world, name, "train", TRAIN_SIZES[name], variant)


def task_documents(world: World, name: str, split: str = "validation") -> list[Document]:
    """Documents of one task.

    Args:
        world: the world.
        name: ``cola``, ``sst2``, ``mrpc`` or ``rte``.
        split: ``train`` or ``validation``; no document is in both.

    Returns:
        ``{"sentence", "label", "idx"}`` or ``{"sentence1", "sentence2", "label", "idx"}`` documents.

    Raises:
        ValueError: if the name or the split is unknown.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; choose from {', '.join(TASKS)}")
    if split == "train":
        return train_documents(world, name)
    if split == "validation":
        return _documents(world, name, split, VALIDATION_SIZES[name], 0)
    raise ValueError(f"unknown split {split!r}; choose from train, validation")
