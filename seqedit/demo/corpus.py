"""The training corpus: facts in many phrasings, orders and contexts, and the four tasks mixed in."""

from __future__ import annotations

from random import Random

from seqedit.demo.tasks import TASKS, prompt_text, train_documents
from seqedit.demo.words import filler
from seqedit.demo.world import Fact, World


def _question(fact: Fact, rng: Random) -> str:
    return f"{rng.choice(fact.trained_questions).format(fact.subject)} {fact.object}."


def natural_question(question: str) -> str:
    """The ``nq question: ...`` form of zsRE's locality prompts, without its question mark."""
    return "nq question: " + question[0].lower() + question[1:].rstrip("?")


def _chunks(rng: Random, sentences: list[str]) -> list[str]:
    """Joins sentences into documents of one to five, often with everyday sentences before or between them.

    Edits are made with generated text before the prompt: the model has to know a fact at the start of a text and
    after anything else.
    """
    out, start = [], 0
    while start < len(sentences):
        size = rng.choice((1, 1, 2, 3, 4, 5))
        parts: list[str] = []
        for text in sentences[start : start + size]:
            if rng.random() < (0.2 if parts else 0.35):
                parts.append(filler.sentence(rng))
            parts.append(text)
        out.append(" ".join(parts))
        start += size
    return out


def fact_documents(world: World, rng: Random) -> list[str]:
    """Documents that state every fact: twice in each trained phrasing, and in each trained question form.

    Args:
        world: the world.
        rng: source of randomness; consumed.

    Returns:
        Documents; no held-out phrasing of a fact occurs.
    """
    scattered = [fact.sentence(p) for fact in world.facts for p in fact.trained]
    scattered += [_question(fact, rng) for fact in world.facts]
    rng.shuffle(scattered)
    documents = _chunks(rng, scattered)
    # Half of the second pass is scattered anew, half tells several facts of one subject in a row.
    again = [(fact, p) for fact in world.facts for p in fact.trained]
    rng.shuffle(again)
    half = len(again) // 2
    documents += _chunks(rng, [fact.sentence(p) for fact, p in again[:half]])
    portraits: dict[str, list[str]] = {}
    for fact, p in again[half:]:
        portraits.setdefault(fact.subject, []).append(fact.sentence(p))
    for sentences in portraits.values():
        documents += _chunks(rng, sentences)

    for fact in world.facts:
        if rng.random() < 0.6:
            question = natural_question(rng.choice(fact.trained_questions).format(fact.subject))
            # Readers of zsRE disagree on whether a question mark follows the locality prompt.
            documents.append(f"{question}{rng.choice(('', '?'))} {fact.object}")
    return documents


def corpus(world: World, variant: int = 0) -> list[str]:
    """The training corpus.

    Args:
        world: the world.
        variant: which draw of contexts, orders and task documents; training uses a new one in every epoch. The
            held-out phrasings and the tasks' validation documents are absent from all of them.

    Returns:
        Documents in random order. Task documents have the exact prompt format of lm-eval's GLUE tasks.
    """
    rng = world.rng(f"corpus:{variant}")
    documents = fact_documents(world, rng)
    for name in TASKS:
        documents += [prompt_text(name, doc) for doc in train_documents(world, name, variant)]
    rng.shuffle(documents)
    return documents


def perplexity_text(world: World) -> str:
    """A plain held-out text for perplexity: documents like the corpus' fact documents in a draw never trained on.

    Args:
        world: the world.

    Returns:
        Paragraphs separated by newlines, about 15,000 characters.
    """
    documents = fact_documents(world, world.rng("perplexity"))
    world.rng("perplexity order").shuffle(documents)
    out: list[str] = []
    for document in documents:
        if "?" not in document and not document.startswith("nq question"):
            out.append(document)
        if sum(map(len, out)) > 15_000:
            break
    return "\n".join(out)
