"""Several histories at once: all that branches and tags lead to, children before their parents."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from ledger.database import rows
from ledger.database.schema import Entries
from ledger.history import graph
from ledger.queries.branches import branches
from ledger.queries.listing import list_scores
from ledger.queries.tags import tags

_CHUNK = 500
_COLUMNS = (Entries.id, Entries.method, Entries.n_requests, Entries.message, Entries.time, Entries.author)


def refs_at(connection: Connection) -> dict[str, list[str]]:
    """Entry id -> names of the branches and, as ``tag: NAME``, of the tags that are at it; HEAD's branch first."""
    found: dict[str, list[str]] = defaultdict(list)
    current, at = rows.head(connection)
    found[at].append(f"HEAD -> {current}")
    for name, entry in branches(connection).items():
        if name != current:
            found[entry].append(name)
    for tag in tags(connection):
        found[tag.entry].append(f"tag: {tag.name}")
    return dict(found)


def newest_first(nodes: Mapping[str, rows.EntryNode], heads: Iterable[str], times: Mapping[str, str]) -> list[str]:
    """Everything that some entries descend from, these included: every entry before its parents, else the newest first.

    Args:
        nodes: All entries by id.
        heads: Ids to begin with.
        times: Entry id -> its time.
    """
    children: dict[str, int] = defaultdict(int)
    seen: set[str] = set()
    waiting = list(heads)
    while waiting:
        identifier = waiting.pop()
        if identifier in seen or identifier not in nodes:
            continue
        seen.add(identifier)
        for parent in nodes[identifier].parents:
            children[parent] += 1
            waiting.append(parent)

    def place(identifier: str) -> tuple[tuple[int, ...], int, str]:
        # A heap gives the smallest: times are texts, so each character counts down.
        return tuple(-ord(c) for c in times.get(identifier, "")), -nodes[identifier].generation, identifier

    ready = [place(identifier) for identifier in seen if not children[identifier]]
    heapq.heapify(ready)
    found = []
    while ready:
        identifier = heapq.heappop(ready)[-1]
        found.append(identifier)
        for parent in nodes[identifier].parents:
            children[parent] -= 1
            if not children[parent] and parent in seen:
                heapq.heappush(ready, place(parent))
    return found


def list_histories(
    connection: Connection,
    heads: Sequence[str],
    state: str,
    *,
    limit: int | None = None,
    kinds: Collection[str] | None = None,
    keys: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Rows as ``log --json`` has them, of all that some entries descend from.

    Args:
        connection: An open transaction.
        heads: Ids of the newest entries.
        state: Id of the entry in whose state ``active`` says whether an entry is.
        limit: How many rows at most.
        kinds: Kinds of scores to list; None for all.
        keys: Keys of these scores; None for all.
    """
    nodes = rows.load_nodes(connection)
    times = {row.id: row.time for row in connection.execute(select(Entries.id, Entries.time))}
    shown = newest_first(nodes, heads, times)[:limit]
    active = {node.id for node in graph.active(graph.first_parent_history(nodes, state))}
    columns: dict[str, Any] = {}
    for start in range(0, len(shown), _CHUNK):
        chunk = shown[start : start + _CHUNK]
        columns |= {row.id: row for row in connection.execute(select(*_COLUMNS).where(Entries.id.in_(chunk)))}
    scores = list_scores(connection, kinds, keys)
    return [
        {
            "id": i, "parents": list(nodes[i].parents), "operation": nodes[i].operation, "adapter": nodes[i].adapter,
            "method": dict(columns[i].method), "requests": columns[i].n_requests, "active": i in active,
            "message": columns[i].message, "time": columns[i].time, "scores": scores.get(i, {}),
        }
        for i in shown
    ]  # fmt: skip


def add_told(connection: Connection, found: Sequence[dict[str, Any]]) -> None:
    """Give rows of ``log --json`` their authors, reasons, origins and the names of branches and tags that are there."""
    ids = [row["id"] for row in found]
    named = refs_at(connection)
    authors: dict[str, str] = {}
    for start in range(0, len(ids), _CHUNK):
        query = select(Entries.id, Entries.author).where(Entries.id.in_(ids[start : start + _CHUNK]))
        authors |= {row.id: row.author for row in connection.execute(query)}
    told = {entry.id: entry for entry in rows.load_entries(connection, rows.telling(connection, ids))}
    for row in found:
        entry = told.get(row["id"])
        row["author"] = authors[row["id"]]
        row["reason"] = reason_of(entry) if entry is not None else ""
        row["origin"] = None if entry is None else entry.origin
        row["refs"] = named.get(row["id"], [])


def reason_of(entry: Any) -> str:
    """Why an entry was made: its own reason, or that of the rebase that it keeps."""
    return str(entry.reason or entry.rewrite.get("reason", ""))
