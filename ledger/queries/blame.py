"""Blame: who set a fact, what superseded it, what took it out of force and why, and where it still is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from ledger.database import rows
from ledger.history import graph
from ledger.history.entries import Entry
from ledger.history.rewrites import Dropped, Event, Rewrite, rewrites_in
from ledger.queries.branches import branches
from ledger.queries.departures import departure
from ledger.queries.revisions import resolve
from ledger.queries.tags import tags
from ledger.queries.taught import Taught, history_of_subject
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request


@dataclass(frozen=True)
class Answer:
    """One request about a subject, and what has become of it.

    Attributes:
        taught: The request.
        status: ``in force``; ``superseded``: a later active entry teaches the same fact; ``out of force``: its entry
            was reverted, swapped or merged; ``dropped``: a rebase or reorder left it out of this history;
            ``elsewhere``: its entry is not in this history.
        by: Id of the entry that superseded it, took it out of force or dropped it; None otherwise.
        set_by: What taught it: author, message, reason and time of its entry; None where the entry is damaged.
        event: What ``by`` did, with its author, time, message and reason; for ``elsewhere`` the replay, or the move
            of a branch, that left it behind. None where nothing did.
        before: What had taken it out of force before a rebase or reorder dropped it.
        left_out: Whether a merge, because it was superseded, took it out without taking it on.
        now: Id of the entry in force that teaches the same fact with the same answer, where another one does.
        refs: Branches, and tags as ``tag:NAME``, in whose states it is in force, where it is not in force in this one.
        request: The whole request, with whatever else is known of the fact.
    """

    taught: Taught
    status: str
    by: str | None = None
    set_by: Event | None = None
    event: Event | None = None
    before: Event | None = None
    left_out: bool = False
    now: str | None = None
    refs: tuple[str, ...] = ()
    request: Request | None = None


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
    nodes = rows.load_nodes(connection)
    history = graph.first_parent_history(nodes, head)
    rewrites = _rewrites(connection, history)
    dropped = _dropped(rewrites)
    found = _with_lost(found, dropped, subject, relation)
    if not found:
        return []
    state = _State.of(history, found)
    answers = [_answer(taught, state, dropped, rewrites) for taught in found]
    answers = [a for a in answers if everywhere or a.status != "elsewhere"]
    return _explained(connection, nodes, answers, state, found)


@dataclass(frozen=True)
class _State:
    """A history, and which of some requests it has in force."""

    past: Collection[str]
    out: Mapping[str, str]
    active: Collection[str]
    last: Mapping[str, Taught]  # canonical relation -> the request in force

    @classmethod
    def of(cls, history: Sequence[graph.Node], found: Sequence[Taught]) -> _State:
        place = {node.id: position for position, node in enumerate(graph.active(history))}

        def order(taught: Taught) -> tuple[int, int]:
            return place[taught.entry], taught.position

        last: dict[str, Taught] = {}
        for taught in found:
            name = canonical(taught.relation)
            if taught.entry in place and order(taught) >= order(last.get(name, taught)):
                last[name] = taught
        return cls({node.id for node in history}, graph.silenced(history), place, last)

    def live(self, taught: Taught) -> bool:
        return taught.entry in self.active and self.last[canonical(taught.relation)] == taught


def _answer(
    taught: Taught, state: _State, dropped: Mapping[str, tuple[Rewrite, Dropped]], rewrites: Sequence[Rewrite]
) -> Answer:
    last = state.last.get(canonical(taught.relation))
    same = last is not None and canonical(last.target_new) == canonical(taught.target_new)
    now = last.entry if last is not None and same else None
    if taught.entry in state.active:
        if state.live(taught):
            return Answer(taught, "in force")
        return Answer(taught, "superseded", None if last is None else last.entry, now=now)
    if taught.entry in state.past:
        return Answer(taught, "out of force", state.out.get(taught.entry), now=now)
    if taught.entry in dropped:
        rewrite, what = dropped[taught.entry]
        if taught.position in what.facts:
            return Answer(taught, "dropped", rewrite.event.entry, event=rewrite.event, before=what.by, now=now)
    replay = next((r.event for r in reversed(rewrites) if taught.entry in r.replayed or _has(r, taught.entry)), None)
    return Answer(taught, "elsewhere", event=replay, now=now)


def _has(rewrite: Rewrite, entry: str) -> bool:
    return any(entry == one.entry.entry for one in rewrite.dropped)


def _rewrites(connection: Connection, history: Sequence[graph.Node]) -> list[Rewrite]:
    """What the entries of a history keep of replays; only the few that keep something are read whole."""
    ids = [node.id for node in history]
    return rewrites_in(rows.load_entries(connection, rows.telling(connection, ids)))


def _dropped(rewrites: Sequence[Rewrite]) -> dict[str, tuple[Rewrite, Dropped]]:
    return {one.entry.entry: (rewrite, one) for rewrite in rewrites for one in rewrite.dropped}


def _with_lost(
    found: list[Taught], dropped: Mapping[str, tuple[Rewrite, Dropped]], subject: str, relation: str | None
) -> list[Taught]:
    """The requests with those of entries that garbage collection has removed, as their successors keep them."""
    known = {taught.entry for taught in found}
    lost = [
        Taught(
            one.entry.entry, position, request.subject, request.named_relation, request.prompt, request.target_new,
            0, one.entry.operation, one.entry.time,
        )
        for _, one in dropped.values()
        if one.entry.entry not in known
        for position, request in one.facts.items()
        if canonical(request.subject) == canonical(subject)
        and (relation is None or canonical(request.named_relation) == canonical(relation))
    ]  # fmt: skip
    return [*sorted(lost, key=lambda taught: taught.time), *found] if lost else found


def _explained(
    connection: Connection,
    nodes: Mapping[str, rows.EntryNode],
    answers: Sequence[Answer],
    state: _State,
    found: Sequence[Taught],
) -> list[Answer]:
    """Answers with what the entries say (authors, messages, reasons), and where else the facts are in force."""
    wanted = {i for a in answers for i in (a.taught.entry, a.by) if i is not None and i in nodes}
    entries = {entry.id: entry for entry in rows.load_entries(connection, sorted(wanted))}
    elsewhere = _states(connection, nodes, found) if any(a.status != "in force" for a in answers) else {}
    return [_told(connection, nodes, answer, entries, elsewhere) for answer in answers]


def _states(connection: Connection, nodes: Mapping[str, rows.EntryNode], found: Sequence[Taught]) -> dict[str, _State]:
    """Branches and tags with their states; refs at one entry share it."""
    refs = {**branches(connection), **{f"tag:{tag.name}": tag.entry for tag in tags(connection)}}
    made: dict[str, _State] = {}
    for entry in refs.values():
        if entry not in made:
            made[entry] = _State.of(graph.first_parent_history(nodes, entry), found)
    return {name: made[entry] for name, entry in refs.items()}


def _told(
    connection: Connection,
    nodes: Mapping[str, rows.EntryNode],
    answer: Answer,
    entries: Mapping[str, Entry],
    elsewhere: Mapping[str, _State],
) -> Answer:
    taught, source = answer.taught, entries.get(answer.taught.entry)
    more: dict[str, Any] = {}
    if source is not None:
        more |= {"set_by": Event.of(source), "request": source.requests[taught.position]}
    if answer.status != "in force":
        more["refs"] = tuple(name for name, state in elsewhere.items() if state.live(taught))
    by = None if answer.by is None else entries.get(answer.by)
    if answer.event is None and by is not None:
        more["event"] = Event.of(by)
        if answer.status == "out of force" and by.operation == "merge":
            more["left_out"] = not any(
                request.fact == (canonical(taught.subject), canonical(taught.relation))
                and canonical(request.target_new) == canonical(taught.target_new)
                for request in by.requests
            )
    if answer.status == "elsewhere" and answer.event is None and not more["refs"]:
        more["event"] = departure(connection, nodes, taught.entry)
    return replace(answer, **more)
