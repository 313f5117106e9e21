"""Which entries taught a fact: every request about a subject, found by index among millions."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select

from ledger.database.fact_keys import FOLDED_CHARACTERS, fact_digest, folded, subject_digest
from ledger.database.schema import Entries, Requests
from ledger.queries.histories import load_history
from ledger.queries.revisions import resolve

MIN_PREFIX = 3
"""How many first characters a suggestion shares with the subject at least, or all of a shorter one."""
_CANDIDATES = 200
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class Taught:
    """One request about a subject.

    Attributes:
        entry: Id of the entry it is in.
        position: Its number, from 0, among the entry's requests.
        subject: The subject.
        relation: The relation, or the prompt where the request names none.
        prompt: Prompt with one ``{}``.
        target_new: What was taught.
        generation: How many entries precede the entry.
        operation: The entry's operation.
        time: When the entry was made, ISO 8601 UTC.
        date: The fact's own date, as its file gives it; None where it gives none. So for the next two.
        source: Where the fact is from.
        note: What else its file says of it.
    """

    entry: str
    position: int
    subject: str
    relation: str
    prompt: str
    target_new: str
    generation: int
    operation: str
    time: str
    date: str | None = None
    source: str | None = None
    note: str | None = None


def history_of_subject(
    connection: Connection, subject: str, relation: str | None = None, *, rev: str | None = None
) -> list[Taught]:
    """The requests about a subject, whether they are still in force or not.

    Args:
        connection: An open transaction.
        subject: The subject as it was taught, in any spelling of `seqedit.facts.identity`.
        relation: Only this relation; the prompt, where requests name no relation.
        rev: Only the history of this revision; else all branches and what no branch leads to any more.

    Returns:
        Oldest entry first, and within an entry in the order of its requests.

    Raises:
        InputError: ``rev`` names no entry.
    """
    found = [Taught(**row._mapping) for row in connection.execute(subject_query(subject, relation))]
    if rev is None or not found:
        return found
    history = load_history(connection, resolve(connection, rev))
    among = {node.id for node in history}
    return [taught for taught in found if taught.entry in among]


def subject_query(subject: str, relation: str | None) -> Select[Any]:
    """The query of `history_of_subject`; it reads an index of digests and the rows found there."""
    r, e = Requests, Entries
    query: Select[*tuple[Any, ...]] = select(
        r.entry,
        r.position,
        r.subject,
        r.relation,
        r.prompt,
        r.target_new,
        e.generation,
        e.operation,
        e.time,
        r.date,
        r.source,
        r.note,
    ).join(e, e.id == r.entry)
    if relation is None:
        query = query.where(r.subject_digest == subject_digest(subject))
    else:
        query = query.where(r.fact_digest == fact_digest(subject, relation))
    return query.order_by(e.generation, r.entry, r.position)


def similar_subjects(connection: Connection, subject: str, limit: int = 5) -> list[str]:
    """Subjects to suggest where one was never taught: the same but for case, or with the same beginning.

    It looks at no more than a few hundred rows, whatever the size of the ledger, so it need not find the best.

    Args:
        connection: An open transaction.
        subject: What was asked for.
        limit: How many at most.

    Returns:
        The most similar first.
    """
    start = folded(subject)
    if not start:
        return []
    # Ever shorter beginnings, because what differs may stand anywhere.
    shorter = {length for length in (len(start) * 3 // 4, len(start) // 2, MIN_PREFIX) if length >= MIN_PREFIX}
    for length in sorted(shorter | {len(start)}, reverse=True):
        candidates: set[str] = set(connection.execute(prefix_query(start[:length])).scalars()) - {subject}
        if candidates:
            return sorted(candidates, key=lambda found: (-_likeness(start, found), found))[:limit]
    return []


def prefix_query(start: str) -> Select[Any]:
    """The subjects with a folded beginning: a range of the index."""
    r = Requests
    found = (
        select(r.subject)
        .where(r.subject_folded >= start, r.subject_folded < start + _LAST)
        .order_by(r.subject_folded)
        .limit(_CANDIDATES)
        .subquery()
    )
    return select(found.c.subject).distinct()


def _likeness(start: str, found: str) -> float:
    return difflib.SequenceMatcher(None, start, folded(found[:FOLDED_CHARACTERS]), autojunk=False).ratio()
