"""The facts of a run, as its configuration says they are to be read."""

from __future__ import annotations

from collections.abc import Sequence

from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record
from seqedit.facts.snippets import read_attribute_snippets
from seqedit.runs.config import RunConfig


def load_facts(config: RunConfig) -> list[Record]:
    """The records of ``config.facts``, by its zsRE convention and with its attribute snippets.

    Raises:
        InputError: a file is missing or unusable; nothing is read half.
    """
    file = config.evals.attribute_snippets
    snippets = None if file is None else read_attribute_snippets(file)
    return load_records(config.facts, zsre=config.zsre, snippets=snippets)


def reference_texts(config: RunConfig, records: Sequence[Record]) -> list[str]:
    """The texts that the weights of RS are fitted to: all attribute snippets as published, else the records' own."""
    file = config.evals.attribute_snippets
    every = {text for record in records for text in record.reference_texts}
    if file is not None:
        every |= set(read_attribute_snippets(file).every())
    return sorted(every)
