"""What every entry of a history changed of the facts that are answered: learned, superseded, reverted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from ledger.database import rows
from ledger.history import graph
from ledger.history.diff import Fact, FactChange, fact_changes, facts_in_force
from ledger.history.entries import Entry
from seqedit.facts.requests import Request

_State = dict[Fact, tuple[str, Request]]


def patches(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[FactChange, ...]]:
    """Changed facts of some entries against the state that each was made on, its first parent's.

    An edit only adds to its parent's facts; what other operations do follows from their whole history.

    Args:
        connection: An open transaction.
        ids: Ids of the entries.

    Returns:
        Entry id -> its changes; none of a root.
    """
    nodes = rows.load_nodes(connection)
    wanted = sorted(ids, key=lambda i: nodes[i].generation)
    known: set[str] = set()
    for identifier in wanted:
        at: str | None = identifier
        while at is not None and at not in known:
            known.add(at)
            at = nodes[at].parents[0] if nodes[at].parents else None
    ordered = [i for i in nodes if i in known]
    entries = {entry.id: entry for entry in rows.load_entries(connection, ordered)}
    states: dict[str, _State] = {}
    left = Counter(parent for i in wanted for parent in nodes[i].parents[:1])
    found: dict[str, tuple[FactChange, ...]] = {}
    for identifier in wanted:
        parents = nodes[identifier].parents
        if not parents:
            found[identifier] = ()
            continue
        before = states.get(parents[0])
        if before is None:
            before = states[parents[0]] = _facts(nodes, entries, parents[0])
        after = _next(nodes, entries, identifier, before)
        states[identifier] = after
        found[identifier] = fact_changes(before, after)
        left[parents[0]] -= 1
        if not left[parents[0]]:
            del states[parents[0]]  # nobody asks for it again
    return found


def _facts(nodes: Mapping[str, rows.EntryNode], entries: Mapping[str, Entry], head: str) -> _State:
    active = [entries[node.id] for node in graph.active(graph.first_parent_history(nodes, head))]
    live = graph.live_facts([(entry.id, [request.fact for request in entry.requests]) for entry in active])
    return facts_in_force(active, live)


def _next(nodes: Mapping[str, rows.EntryNode], entries: Mapping[str, Entry], identifier: str, before: _State) -> _State:
    if nodes[identifier].operation == "edit":
        return {**before, **{request.fact: (identifier, request) for request in entries[identifier].requests}}
    if nodes[identifier].operation == "rebase":
        return before
    return _facts(nodes, entries, identifier)
