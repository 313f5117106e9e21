"""What ``log`` lists: the columns and scores of many entries, by a few queries whatever their number."""

from __future__ import annotations

import gc
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Text, cast, select, type_coerce
from sqlalchemy.types import NullType

from ledger.database.schema import Entries, Scores
from ledger.history import graph
from ledger.queries.histories import load_history
from seqedit.errors import CheckFailed

# JSON as text, which is parsed once for all entries that say the same.
_COLUMNS: tuple[Any, ...] = (
    cast(Entries.method, Text), Entries.n_requests, Entries.message, Entries.time
)  # fmt: skip


def list_entries(
    connection: Connection,
    head: str,
    limit: int | None = None,
    kinds: Collection[str] | None = None,
    keys: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Rows of ``log --json``, newest first.

    Args:
        connection: An open transaction.
        head: Id of the newest entry of the history.
        limit: How many rows at most.
        kinds: Kinds of scores to list; None for all.
        keys: Keys of these scores; None for all.

    Raises:
        InputError: the history is broken.
        CheckFailed: the entries' generations are not those of their history.
    """
    with _without_collections():
        return _list(connection, head, limit, kinds, keys)


def _list(
    connection: Connection,
    head: str,
    limit: int | None,
    kinds: Collection[str] | None,
    keys: Collection[str] | None,
) -> list[dict[str, Any]]:
    # One scan of the entries gives all their columns; where few are shown, only those are read.
    history = load_history(connection, head, _COLUMNS if limit is None else ())
    active = {node.id for node in graph.active(history)}
    shown = history[::-1][:limit]
    if not shown:
        return []
    among = None if len(shown) == len(history) else (shown[-1].generation, shown[0].generation)
    columns = {node.id: node.columns for node in shown} if limit is None else _columns(connection, among)
    for node in shown:
        if node.id not in columns:
            raise CheckFailed(f"entry {node.id[:12]} has a wrong generation in the database; run verify")
    scores = _scores(connection, among, kinds, keys)
    # Most batches of a history have the same settings; those that differ are parsed as one array.
    texts = list(dict.fromkeys(columns[node.id][0] for node in shown))
    methods = dict(zip(texts, json.loads(f"[{','.join(texts)}]"), strict=True))
    rows = []
    for node in shown:
        identifier, operation, parents, adapter, *_ = node
        method, requests, message, time = columns[identifier]
        rows.append(
            {
                "id": identifier,
                "parents": list(parents),
                "operation": operation,
                "adapter": adapter,
                "method": dict(methods[method]),
                "requests": requests,
                "active": identifier in active,
                "message": message,
                "time": time,
                "scores": scores.get(identifier, {}),
            }
        )
    return rows


_Range = tuple[int, int] | None  # of generations: neighbours in a history; None for everything


def _columns(connection: Connection, among: _Range) -> dict[str, tuple[Any, ...]]:
    query = select(Entries.id, *_COLUMNS)
    if among is not None:
        query = query.where(Entries.generation.between(*among))
    return {identifier: tuple(rest) for identifier, *rest in connection.execute(query).all()}


def list_scores(
    connection: Connection, kinds: Collection[str] | None = None, keys: Collection[str] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Entry id -> kind -> key -> value, of all entries; see `list_entries`."""
    with _without_collections():
        return _scores(connection, None, kinds, keys)


def _scores(
    connection: Connection, among: _Range, kinds: Collection[str] | None, keys: Collection[str] | None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Entry id -> kind -> key -> value; of other branches' entries too."""
    # SQLite keeps JSON numbers as numbers and everything else as text. Reading them as the JSON type would call the
    # parser, and catch its error, for every single number.
    sqlite = connection.dialect.name == "sqlite"
    value = type_coerce(Scores.value, NullType()) if sqlite else Scores.value
    query = select(Scores.entry, Scores.kind, Scores.key, value)
    if among is not None:
        query = query.join(Entries, Entries.id == Scores.entry).where(Entries.generation.between(*among))
    if kinds is not None:
        query = query.where(Scores.kind.in_(sorted(kinds)))
    if keys is not None:
        query = query.where(Scores.key.in_(sorted(keys)))
    rows = connection.execute(query).all()
    # Texts are parsed as one array: a call for each would take longer than the query.
    texts = (row[3] for row in rows if isinstance(row[3], str)) if sqlite else ()
    parsed = iter(json.loads(f"[{','.join(texts)}]"))
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    last: tuple[str, str] | None = None
    for entry, kind, key, found in rows:
        if last is None or entry != last[0] or kind != last[1]:
            last, values = (entry, kind), scores.setdefault(entry, {}).setdefault(kind, {})
        values[key] = next(parsed) if sqlite and isinstance(found, str) else found
    return scores


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the garbage collector: among 100,000 new rows, none of them garbage, it takes as long as the work."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
