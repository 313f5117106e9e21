"""Measurements beside the entries: added when they are known, replaced when they are measured again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ledger.database.schema import Scores
from seqedit.errors import InputError

_CHUNK = 500
MAX_NAME = 255

Values = Mapping[str, Any]


def check_scores(kind: str, values: Values) -> dict[str, Any]:
    """Scores as JSON types.

    Raises:
        InputError: a kind or key is not a name, or a value is not JSON; NaN and infinity are not.
    """
    for name in (kind, *values):
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or "\0" in name:
            raise InputError(f"scores: {name!r} is not a name (1 to {MAX_NAME} characters)")
    checked = {}
    for key, value in values.items():
        try:
            checked[key] = json.loads(json.dumps(value, allow_nan=False))
        except ValueError as error:
            raise InputError(
                f"scores: '{kind}', key '{key}' is not JSON: it holds a number that is not finite ({error})"
            ) from error
        except TypeError as error:
            raise InputError(f"scores: '{kind}', key '{key}' is not JSON ({error})") from error
    return checked


def put_scores(connection: Connection, entry: str, kind: str, values: Values) -> None:
    """Write scores of one kind; keys that are there already get the new value, others stay."""
    checked = check_scores(kind, values)
    keys = list(checked)
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        connection.execute(delete(Scores).where(Scores.entry == entry, Scores.kind == kind, Scores.key.in_(chunk)))
        connection.execute(
            insert(Scores), [{"entry": entry, "kind": kind, "key": key, "value": checked[key]} for key in chunk]
        )


def load_scores(
    connection: Connection, entries: Iterable[str], kind: str | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores of some entries: entry id -> kind -> key -> value."""
    wanted = list(entries)
    found: dict[str, dict[str, dict[str, Any]]] = {entry: {} for entry in wanted}
    for start in range(0, len(wanted), _CHUNK):
        query = select(Scores.entry, Scores.kind, Scores.key, Scores.value).where(
            Scores.entry.in_(wanted[start : start + _CHUNK])
        )
        if kind is not None:
            query = query.where(Scores.kind == kind)
        for row in connection.execute(query.order_by(Scores.entry, Scores.kind, Scores.key)):
            found[row.entry].setdefault(row.kind, {})[row.key] = row.value
    return found
