"""Options that are set once for a ledger, kept in its database: one row of JSON beside what the ledger is.

They belong to this place of the ledger (paths, devices): bundles do not carry them, gc and verify leave them alone.
What a key means and which values it takes is not the ledger's to know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, inspect, select

from ledger.database import places
from ledger.database.schema import Meta
from seqedit.errors import CheckFailed
from seqedit.support.digests import canonical_json

_ROW = "defaults"


def kept_defaults(connection: Connection) -> dict[str, Any]:
    """The options that are kept: name -> value.

    Raises:
        CheckFailed: the row is malformed.
    """
    text = connection.execute(select(Meta.value).where(Meta.key == _ROW)).scalar_one_or_none()
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckFailed("the defaults that the ledger keeps are malformed; set them anew with `seqedit config`")
    return found


def keep_defaults(
    connection: Connection, changes: Mapping[str, Any], more: Mapping[str, Sequence[Any]] | None = None
) -> dict[str, Any]:
    """Change options in a writing transaction; those that are not named stay, and None takes one out.

    Args:
        connection: The transaction.
        changes: Option -> value.
        more: Option -> items that its list gets, those that it has left out.

    Returns:
        What is kept now.
    """
    try:
        kept = kept_defaults(connection)
    except CheckFailed:
        kept = {}
    for name, items in (more or {}).items():
        before = list(kept.get(name) or [])
        kept[name] = [*before, *(item for item in dict.fromkeys(items) if item not in before)]
    kept = {name: value for name, value in {**kept, **changes}.items() if value is not None}
    connection.execute(delete(Meta).where(Meta.key == _ROW))
    if kept:
        connection.execute(insert(Meta), [{"key": _ROW, "value": canonical_json(kept)}])
    return kept


def defaults_at(place: str | Path) -> dict[str, Any]:
    """The options of the ledger at a place; none where there is no ledger. Nothing is opened for writing or upgraded.

    Raises:
        InputError: a database URL that is none.
        CheckFailed: what lies there is damaged.
        EnvironmentFailure: the database cannot be reached.
    """
    database = places.database_of(place)
    if database is None:
        return {}
    try:
        with database.read() as connection:
            return kept_defaults(connection) if inspect(connection).has_table(Meta.__tablename__) else {}
    finally:
        database.close()
