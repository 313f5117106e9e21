"""Subject and target of a RippleEdits statement, told from the file itself.

An edit of the published files is a sentence ("The name of the employer of A B is C D.") and two Wikidata ids; the
names of the ids are nowhere. But every prompt of a relation is the same phrase around another subject, so what a
relation's prompts have in common is the phrase, and answers stand beside the ids of their targets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seqedit.cases.case import CRITERIA
from seqedit.errors import RequestError
from seqedit.facts.checks import short

_FEWEST_SUBJECTS = 5
"""From so many subjects on, what a relation's prompts share is taken for its phrase, not for a name they share."""

_CONNECTORS = frozenset(
    ("of", "which", "by", "in", "the", "that", "is", "are", "has", "plays", "won", "children", "award", "follows")
)
"""Words of the published phrases that stand beside a subject."""


@dataclass(frozen=True)
class Statement:
    """The parts of an edit.

    Attributes:
        subject: Name of the subject.
        prompt: The statement up to the target, subject filled in.
        target: Name of the new object.
        previous: Name of the object before, where it is known.
    """

    subject: str
    prompt: str
    target: str
    previous: str | None


class Vocabulary:
    """Phrases of relations and names of ids, from the prompts of a whole file.

    Args:
        rows: All rows of the file; malformed parts are passed over, for `seqedit.cases.ripple` reports them.
    """

    def __init__(self, rows: Iterable[Any]) -> None:
        self._labels: dict[str, str] = {}
        self._prompts: dict[str, dict[str, str]] = {}  # relation -> subject id -> prompt
        self._by_subject: dict[str, dict[str, str]] = {}  # subject id -> relation -> prompt
        for query in _queries(rows):
            for key, value in _named_ids(query):
                self._labels.setdefault(key, value)
            subject, relation, prompt = query.get("subject_id"), query.get("relation"), query.get("prompt")
            # A query with a phrase of its own does not show the relation's.
            if query.get("phrase") is None and isinstance(prompt, str) and isinstance(relation, str):
                self._prompts.setdefault(relation, {}).setdefault(str(subject), prompt)
                self._by_subject.setdefault(str(subject), {}).setdefault(relation, prompt)
        self._phrases = {relation: _phrase(list(found.values())) for relation, found in self._prompts.items()}

    def read(
        self,
        statement: str,
        relation: str,
        subject_id: str,
        target_id: str,
        previous: str | None = None,
        *,
        subject: str | None = None,
        target: str | None = None,
    ) -> Statement:
        """The parts of an edit's statement.

        Args:
            statement: The new fact, a sentence that ends with the target and a full stop.
            relation: Name of the relation.
            subject_id, target_id: Ids as in the file.
            previous: The fact before, as such a sentence.
            subject, target: Names that are known already.

        Raises:
            RequestError: they cannot be told.
        """
        head, tail = self._phrases.get(relation) or ("", "")
        body = statement.strip().removesuffix(".")
        subject = subject or self._subject(body, relation, subject_id, head, tail)
        if subject is None or subject not in body:
            raise RequestError(
                f"field 'edit.prompt': cannot tell the subject of {short(statement, 200)}; add a field 'subject' to "
                "'edit'"
            )
        target = target or self._labels.get(target_id)
        prompt = None
        if target is not None and body.endswith(f" {target}"):
            prompt = body.removesuffix(f" {target}")
        else:
            after = body.index(subject) + len(subject)
            middle = f" {tail}" if tail else ""
            found = re.match(rf"{re.escape(middle)} " if middle else r".*? (?:is|are|follows|by) ", body[after:])
            if found and body[after + found.end() :].strip():
                prompt = body[: after + found.end() - 1]
                target = body[after + found.end() :]
        if prompt is None or target is None or subject not in prompt:
            raise RequestError(
                f"field 'edit.prompt': cannot tell the target of {short(statement, 200)}; add a field 'target' to "
                "'edit'"
            )
        before = None
        if previous is not None and previous.startswith(prompt + " "):
            before = previous.removeprefix(prompt).strip().removesuffix(".") or None
        return Statement(subject, prompt, target, before)

    def _subject(self, body: str, relation: str, subject_id: str, head: str, tail: str) -> str | None:
        label = self._labels.get(subject_id)
        if label and f" {label} " in f" {body} ":
            return label
        if (head or tail) and len(self._prompts[relation]) >= _FEWEST_SUBJECTS:
            found = re.match(rf"{re.escape(head)} ?(.+?) {re.escape(tail)} ", f"{body} ")
            return found[1] if found else None
        prompts = [prompt for name, prompt in self._by_subject.get(subject_id, {}).items() if name != relation]
        return _common_name([body, *prompts]) if len(prompts) > 1 else None


def _queries(rows: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        if not isinstance(row, Mapping):
            continue
        for criterion in (*CRITERIA, "Relation_Specifity"):
            for test in _objects(row.get(criterion)):
                for part in ("test_queries", "condition_queries"):
                    yield from _objects(test.get(part))


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _named_ids(query: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Ids of a query's answers with their names."""
    ids = query.get("second_hop_target_ids" if query.get("query_type") == "two_hop" else "target_ids")
    answers = _objects(query.get("answers"))
    if isinstance(ids, list) and len(ids) == len(answers):
        for key, answer in zip(ids, answers, strict=True):
            if isinstance(key, str) and isinstance(answer.get("value"), str) and answer["value"].strip():
                yield key, answer["value"]


def _phrase(prompts: list[str]) -> tuple[str, str]:
    """What prompts begin and end with, in whole words."""
    words = [prompt.split(" ") for prompt in prompts]
    head = _shared(words)
    tail = _shared([list(reversed(row[len(head) :])) for row in words])
    return " ".join(head), " ".join(reversed(tail))


def _shared(rows: list[list[str]]) -> list[str]:
    shared = []
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared


def _common_name(texts: list[str]) -> str | None:
    """The run of words that all texts share and that looks most like a name."""
    first, others = texts[0].split(" "), [f" {text} " for text in texts[1:]]
    best: list[str] = []
    for start in range(len(first)):
        for end in range(start + 1, len(first) + 1):
            run = first[start:end]
            if not all(f" {' '.join(run)} " in other for other in others):
                break
            if start == 0 and first[0] == "The":
                continue  # how nearly every phrase begins
            while run and run[0] in _CONNECTORS:
                run = run[1:]
            while run and run[-1] in _CONNECTORS:
                run = run[:-1]
            if _capitals(run) > _capitals(best):
                best = run
    return " ".join(best) or None


def _capitals(words: list[str]) -> tuple[int, int]:
    return sum(not word[:1].islower() for word in words), len(words)
