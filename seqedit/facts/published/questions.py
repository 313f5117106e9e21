"""WikiBigEdit, UltraEditBench and QAEdit: questions with one answer, a rephrasing and questions about other things.

Thede et al., "WikiBigEdit" (2025); Gu et al., "UltraEdit" (2025); Yang et al., "The Mirage of Model Editing" (2025).
"""

from __future__ import annotations

from seqedit.facts.checks import check_text
from seqedit.facts.fields import Row, an_object, strings
from seqedit.facts.published.probes import probe
from seqedit.facts.published.slots import subject_slot
from seqedit.facts.requests import Neighbor, Probe, Record, Request


def wikibigedit(row: Row) -> Record:
    """``update`` (or ``src``) with its ``ans`` (or ``alt``); the personas' and multi-hop questions are portability."""
    prompt, target = ("update", "ans") if "update" in row else ("src", "alt")
    new = check_text(row[target], target)
    probes: list[Probe] = []
    for name in sorted(n for n in row if n == "personas" or n.startswith("genv2_")):
        probes += probe("portability", "personas", row[name], new, name)
    probes += probe("portability", "mhop", row.get("mhop"), row.get("mhop_ans"), "mhop")
    return _record(row, prompt, target, "rephrase", tuple(probes), _other(row, "loc", "loc_ans"))


def ultraeditbench(row: Row) -> Record:
    """``prompt`` with its ``ans``; ``loc`` (or ``random_prompt``) asks for something else."""
    other = (*_other(row, "loc", "loc_ans"), *_other(row, "random_prompt", "random_ans"))
    return _record(row, "prompt", "ans", "rephrase_prompt", (), other)


def qaedit(row: Row) -> Record:
    """``prompt`` with its ``target``; ``locality`` is a list of {"loc", "loc_ans"}."""
    items = row.get("locality") or ()
    if not isinstance(items, list | tuple):
        items = [items]
    other = tuple(p for item in items for p in _other(an_object(item, "locality"), "loc", "loc_ans"))
    return _record(row, "prompt", "target", "rephrase", (), other)


def _other(row: Row, prompt: str, answer: str) -> tuple[Probe, ...]:
    return tuple(probe("locality", "", row.get(prompt), row.get(answer), prompt))


def _record(
    row: Row, prompt: str, target: str, rephrase: str, portability: tuple[Probe, ...], locality: tuple[Probe, ...]
) -> Record:
    request = Request(
        row["subject"], subject_slot(row[prompt], row["subject"], prompt), check_text(row[target], target),
        case_id=row.get("case_id", row.get("id")),
    )  # fmt: skip
    near = tuple(Neighbor(p.prompt, p.answers[0]) for p in locality if p.answers)
    return Record(request, strings(row, rephrase), near, probes=(*portability, *locality))
