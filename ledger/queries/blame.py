"""Blame: who set a fact, what superseded it, and what took it out of force."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.database import rows
from ledger.history import graph
from ledger.queries.revisions import resolve
from ledger.queries.taught import Taught, history_of_subject
from seqedit.facts.identity import canonical


@dataclass(frozen=True)
class Answer:
    """One request about a subject, and what has become of it.

    Attributes:
        taught: The request.
        status: ``in force``; ``superseded``: a later active entry teaches the same fact; ``out of force``: its entry
            was reverted, swapped or merged; ``elsewhere``: its entry is not in this history.
        by: Id of the entry that superseded it or took it out of force; None otherwise.
    """

    taught: Taught
    status: str
    by: str | None = None


def blame(
    connection: Connection, subject: str, relation: str | None = None, *, rev: str = rows.HEAD, everywhere: bool = False
) -> list[Answer]:
    """The requests about a subject, oldest first, with what has become of each in a state.

    Args:
        connection: An open transaction.
        subject: The subject as it was taught, in any spelling of `seqedit.facts.identity`.
        relation: Only this relation; the prompt, where requests name no relation.
        rev: The state.
        everywhere: Also entries that are not in the state's history.

    Raises:
        InputError: ``rev`` names no entry.
    """
    head = resolve(connection, rev)
    found = history_of_subject(connection, subject, relation)
    if not found:
        return []
    history = graph.first_parent_history(rows.load_nodes(connection), head)
    past = {node.id for node in history}
    out = graph.silenced(history)
    place = {node.id: position for position, node in enumerate(graph.active(history))}
    last: dict[str, Taught] = {}  # relation -> the request in force
    for taught in found:
        relation_of = canonical(taught.relation)
        if taught.entry in place and _order(place, taught) >= _order(place, last.get(relation_of, taught)):
            last[relation_of] = taught
    answers = []
    for taught in found:
        if taught.entry not in past:
            if everywhere:
                answers.append(Answer(taught, "elsewhere"))
        elif taught.entry not in place:
            answers.append(Answer(taught, "out of force", out.get(taught.entry)))
        elif last[canonical(taught.relation)] == taught:
            answers.append(Answer(taught, "in force"))
        else:
            answers.append(Answer(taught, "superseded", last[canonical(taught.relation)].entry))
    return answers


def _order(place: dict[str, int], taught: Taught) -> tuple[int, int]:
    return place[taught.entry], taught.position
