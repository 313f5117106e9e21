"""MzsRE and Bi-ZsRE: a zsRE record in several languages, under the name of each (Wang et al., 2024).

The first language's fact is taught. What the others ask is scored by language: the same question and its rephrasing
are portability, the locality question is locality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from seqedit.facts.checks import check_text
from seqedit.facts.fields import Row, strings
from seqedit.facts.published.probes import kind_name, probe, probes_of
from seqedit.facts.published.slots import subject_slot
from seqedit.facts.requests import Neighbor, Probe, Record, Request


def is_multilingual(row: Row) -> bool:
    """Whether some field holds a whole zsRE record."""
    return any(isinstance(value, Mapping) and {"src", "alt"} <= set(value) for value in row.values())


def mzsre(row: Row) -> Record:
    """The record of all its languages; the text of each is kept as it is."""
    told = {name: value for name, value in row.items() if isinstance(value, Mapping) and {"src", "alt"} <= set(value)}
    taught = next(iter(told))
    own = told[taught]
    answers = strings(own, "answers")
    request = Request(
        own["subject"], subject_slot(own["src"], own["subject"], f"{taught}.src"),
        check_text(own["alt"], f"{taught}.alt"), target_true=answers[0] if answers else None,
        case_id=row.get("case_id", row.get("id")),
    )  # fmt: skip
    probes: list[Probe] = []
    for name, record in told.items():
        language = kind_name(name)
        if name != taught:
            for field in ("src", "rephrase"):
                for prompt in strings(record, field):
                    probes += probe("portability", language, prompt, record["alt"], f"{name}.{field}")
        # Follow-up questions and locality prompts of one language are one kind of their own.
        probes += [replace(p, name=language if p.kind == "locality" else f"{p.name}_{language}")
                   for p in probes_of({"portability": record.get("portability")})]  # fmt: skip
        probes += probe("locality", language, record.get("loc"), record.get("loc_ans"), f"{name}.loc")
    near: tuple[Neighbor, ...] = ()
    if own.get("loc") and own.get("loc_ans"):
        near = (Neighbor(check_text(own["loc"], "loc"), check_text(own["loc_ans"], "loc_ans")),)
    return Record(request, strings(own, "rephrase"), near, probes=tuple(probes))
