"""One branch's history by a light query: what the graph algebra needs, and nothing of the entries' contents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, literal, select

from ledger.database.schema import Entries, EntryParents, EntryTargets, Requests
from ledger.history import graph
from seqedit.errors import InputError


class HistoryNode(NamedTuple):
    """What the graph algebra needs of an entry, without its requests.

    Attributes:
        columns: The further columns that were asked for.
    """

    id: str
    operation: str
    parents: tuple[str, ...]
    adapter: str | None
    targets: tuple[str, ...]
    generation: int
    columns: tuple[Any, ...] = ()


def load_history(connection: Connection, head: str, columns: Sequence[Any] = ()) -> list[HistoryNode]:
    """The entries from the root to ``head`` along first parents, oldest first.

    Three queries whatever the length. They read short columns of the entries of all branches, which for 10,000
    entries takes as long as following their parents in a recursive query, and yields all parents and targets.

    Args:
        connection: An open transaction.
        head: Id of the newest.
        columns: Further columns of `Entries`.

    Raises:
        InputError: a parent is missing, or the chain runs in a circle.
    """
    query = select(Entries.id, Entries.operation, Entries.adapter, Entries.generation, *columns)
    found = {row[0]: row for row in connection.execute(query).all()}
    parents: dict[str, tuple[str, ...]] = {}
    # The few that have several parents are put in order; a sort of all rows would take longer than reading them.
    several: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for entry, position, parent in connection.execute(
        select(EntryParents.entry, EntryParents.position, EntryParents.parent)
    ).all():
        if position == 0:
            parents[entry] = (parent,)
        else:
            several[entry].append((position, parent))
    for entry, others in several.items():
        parents[entry] = (*parents.get(entry, ()), *(parent for _, parent in sorted(others)))
    targets: dict[str, list[str]] = defaultdict(list)
    named = select(EntryTargets.entry, EntryTargets.target)
    for entry, target in connection.execute(named.order_by(EntryTargets.entry, EntryTargets.position)).all():
        targets[entry].append(target)
    chain: list[HistoryNode] = []
    seen: set[str] = set()
    at: str | None = head
    while at is not None:
        if at in seen:
            raise InputError(f"the history of {head[:12]} runs in a circle through {at[:12]}; run verify")
        if at not in found:
            raise InputError(f"entry {at[:12]} in the history of {head[:12]} is missing; run verify")
        seen.add(at)
        _, operation, adapter, generation, *further = found[at]
        before = parents.get(at, ())
        chain.append(
            HistoryNode(at, operation, before, adapter, tuple(targets.get(at, ())), generation, tuple(further))
        )
        at = before[0] if before else None
    return chain[::-1]


def ancestor(connection: Connection, head: str, steps: int) -> tuple[str, int]:
    """The entry some steps back along first parents, by one query.

    Args:
        connection: An open transaction.
        head: Id to start from.
        steps: How far to go back.

    Returns:
        The id reached and how many steps were made: fewer than asked for where the history ends before.
    """
    chain = select(literal(head).label("id"), literal(0).label("depth")).cte("chain", recursive=True)
    chain = chain.union_all(
        select(EntryParents.parent, chain.c.depth + 1).where(
            EntryParents.entry == chain.c.id, EntryParents.position == 0, chain.c.depth < steps
        )
    )
    found = connection.execute(select(chain.c.id, chain.c.depth).order_by(chain.c.depth.desc()).limit(1)).one()
    return str(found[0]), int(found[1])


def live_requests(connection: Connection, head: str) -> dict[str, tuple[int, ...]]:
    """Which requests of a state are still in force: a later request for the same fact supersedes the earlier one.

    Only facts that were edited more than once can be superseded, so an index finds all that has to be looked at.

    Args:
        connection: An open transaction.
        head: Id of the newest entry.

    Returns:
        Active entry id, in composing order -> positions of its requests that nothing later supersedes.
    """
    active = graph.active(load_history(connection, head, (Entries.n_requests,)))
    several = select(Requests.fact_digest).group_by(Requests.fact_digest).having(func.count() > 1)
    query = select(Requests.entry, Requests.position, Requests.fact_digest).where(Requests.fact_digest.in_(several))
    requests: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for entry, position, fact in connection.execute(query).all():
        requests[entry].append((position, fact))
    last: dict[str, tuple[str, int]] = {}
    for node in active:
        for position, fact in sorted(requests.get(node.id, ())):
            last[fact] = (node.id, position)
    superseded: dict[str, set[int]] = defaultdict(set)
    for node in active:
        superseded[node.id] = {p for p, fact in requests.get(node.id, ()) if last[fact] != (node.id, p)}
    return {node.id: tuple(p for p in range(node.columns[0]) if p not in superseded[node.id]) for node in active}
