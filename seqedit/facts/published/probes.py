"""Portability and locality questions of a row, in every spelling of KnowEdit's files and of EasyEdit's own.

KnowEdit: kind -> list of {"prompt", "ground_truth"}; EasyEdit's inputs: kind -> {"prompt": [...], "ground_truth":
[...]}, or flat ``portability_prompt`` and ``portability_ground_truth``; its zsRE file: {"New Question", "New Answer"}.
A ground truth is a text, a list of texts, or a list of lists (answers with their aliases): any of them is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seqedit.errors import RequestError
from seqedit.facts.checks import check_text, label
from seqedit.facts.fields import Row, an_object, as_list
from seqedit.facts.requests import Probe

PROBE_FIELDS = (
    "portability", "portability_prompt", "portability_prompts", "portability_ground_truth", "portability_answer",
    "portability_answers", "portability_r", "portability_s", "portability_l",
    "locality", "locality_rs", "locality_f", "locality_prompt", "locality_ground_truth",
)  # fmt: skip
"""Fields that `probes_of` reads."""

_ONE_HOP = "one_hop"
_SHORT = {
    "portability_r": ("portability", "reasoning"),
    "portability_s": ("portability", "subject_aliasing"),
    "portability_l": ("portability", "logical_generalization"),
    "locality_rs": ("locality", "relation_specificity"),
    "locality_f": ("locality", "forgetfulness"),
}
"""Names of KnowEdit's lists in EasyEdit's reader."""
_SPELT = {"relation_specifity": "relation_specificity"}


def answers_of(value: Any, field: str) -> tuple[str, ...]:
    """All accepted answers of a ground truth, in order, each once; blank ones stand for none."""
    found: dict[str, None] = {}

    def take(item: Any) -> None:
        if item is None:
            return
        if isinstance(item, Sequence) and not isinstance(item, str):
            for part in item:
                take(part)
        elif text := check_text(item, field).strip():
            found[text] = None

    take(value)
    return tuple(found)


def kind_name(name: Any) -> str:
    """A kind as columns name it: ``Subject_Aliasing`` is ``subject_aliasing``."""
    text = "_".join(label(name).strip().lower().replace("-", " ").split())
    return _SPELT.get(text, text)


def probes_of(row: Row) -> tuple[Probe, ...]:
    """The portability and locality questions of a row; a portability question without an answer is left out.

    Raises:
        RequestError: a field is malformed; names it.
    """
    found: list[Probe] = []
    for kind in ("portability", "locality"):
        value = row.get(kind)
        if kind == "portability" and isinstance(value, Mapping) and "New Question" in value:
            found += _items(kind, _ONE_HOP, [_renamed(value)], kind)
        elif value:
            for name, items in an_object(value, kind).items():
                found += _items(kind, kind_name(name), items, f"{kind}.{label(name)}")
    for field, (kind, name) in _SHORT.items():
        if row.get(field):
            found += _items(kind, name, row[field], field)
    found += _flat(row, "portability", ("portability_prompt", "portability_prompts"),
                   ("portability_ground_truth", "portability_answer", "portability_answers"))  # fmt: skip
    found += _flat(row, "locality", ("locality_prompt",), ("locality_ground_truth",))
    return tuple(dict.fromkeys(found))


def probe(kind: str, name: str, prompt: Any, answers: Any, field: str) -> Iterator[Probe]:
    """One question, or none where it is blank or a portability question has no answer."""
    if prompt is None or not check_text(prompt, field).strip():
        return
    accepted = answers_of(answers, field)
    if accepted or kind == "locality":
        yield Probe(kind, name, prompt, accepted)


def plain_probes(value: Any) -> tuple[Probe, ...]:
    """The column ``probes`` of the plain layout: objects with ``kind``, ``name``, ``prompt`` and ``answers``."""
    found: list[Probe] = []
    for item in value or ():
        item = an_object(item, "probes")
        found.append(
            Probe(item["kind"], item.get("name") or "", item["prompt"], answers_of(item.get("answers"), "probes"))
        )
    return tuple(found)


def _renamed(value: Row) -> Row:
    return {"prompt": value["New Question"], "ground_truth": value.get("New Answer")}


def _items(kind: str, name: str, items: Any, field: str) -> Iterator[Probe]:
    if items is None:
        return
    if isinstance(items, Mapping):
        prompts, truths = as_list(items["prompt"]), items["ground_truth"]
        truths = [truths] if isinstance(items["prompt"], str) else as_list(truths)
        if len(prompts) != len(truths):
            raise RequestError(f"field '{field}': prompt and ground_truth have different lengths")
        items = [{"prompt": p, "ground_truth": t} for p, t in zip(prompts, truths, strict=True)]
    for item in items:
        item = an_object(item, field)
        # A few of KnowEdit's prompts are lists of one.
        for prompt in as_list(item["prompt"]):
            yield from probe(kind, name, prompt, item.get("ground_truth"), field)


def _flat(row: Row, kind: str, prompts: Sequence[str], truths: Sequence[str]) -> Iterator[Probe]:
    prompt = next((name for name in prompts if row.get(name)), None)
    if prompt is None:
        return
    truth = next((name for name in truths if row.get(name)), None)
    asked = as_list(row[prompt])
    known = [None] * len(asked) if truth is None else as_list(row[truth])
    if isinstance(row[prompt], str):  # one question: a list are its answers
        known = [known]
    if len(known) != len(asked):
        raise RequestError(f"fields '{prompt}' and '{truth}' have different lengths")
    for text, answer in zip(asked, known, strict=True):
        yield from probe(kind, "", text, answer, prompt)
