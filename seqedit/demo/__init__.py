"""A small closed world and a language model that knows it, so that everything works without a Hub.

``world()`` draws people, products, companies and towns with 4,200 facts. The functions below turn it into a training
corpus, CounterFact and zsRE records, a timeline of updates and GLUE-layout tasks; ``model_path`` gives the shipped
models, which were trained on ``corpus(world())``. Importing this package needs nothing but Python.

    from seqedit import demo
    model = AutoModelForCausalLM.from_pretrained(demo.model_path("gpt2"))
    records = demo.records(demo.world())
"""

from __future__ import annotations

from pathlib import Path

from seqedit.demo.corpus import corpus, perplexity_text
from seqedit.demo.files import write_tasks, write_world
from seqedit.demo.records.counterfact import records, reference_texts
from seqedit.demo.records.mquake import mquake_cases
from seqedit.demo.records.ripple import ripple_cases
from seqedit.demo.records.timeline import timeline
from seqedit.demo.records.zsre import zsre_records
from seqedit.demo.relations import RELATIONS, Relation
from seqedit.demo.tasks import TASKS, task_documents
from seqedit.demo.world import DEFAULT_SEED, Fact, World, world

__all__ = [
    "DEFAULT_SEED",
    "RELATIONS",
    "TASKS",
    "Fact",
    "Relation",
    "World",
    "corpus",
    "model_path",
    "mquake_cases",
    "perplexity_text",
    "records",
    "reference_texts",
    "ripple_cases",
    "task_documents",
    "timeline",
    "world",
    "write_tasks",
    "write_world",
    "zsre_records",
]

STYLES = ("gpt2", "llama")


def model_path(style: str = "gpt2") -> Path:
    """Directory of a shipped model, to be loaded with ``from_pretrained``.

    Args:
        style: ``gpt2`` (Conv1D, learned positions, tied embeddings, no BOS) or ``llama`` (gated feed-forward, rotary
            positions, untied embeddings, BOS before every text).

    Returns:
        The directory.

    Raises:
        ValueError: if the style is unknown.
    """
    if style not in STYLES:
        raise ValueError(f"unknown demo model {style!r}; choose from {', '.join(STYLES)}")
    return Path(__file__).parent / "models" / style
