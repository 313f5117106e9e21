"""Tags: names of states that stay where they were put.

A tag is a ref whose name begins with ``tag:``, which no branch's can; so garbage collection, signatures and the reflog
know it as they know branches. What is said of it (message, author, time) stands in the table of the ledger's own
settings, under the ref's name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ledger.database import rows
from ledger.database.schema import Meta, Refs
from ledger.history.entries import utc_now
from ledger.queries import branches
from seqedit.errors import InputError
from seqedit.support.digests import canonical_json

PREFIX = branches.TAG_PREFIX


@dataclass(frozen=True)
class Tag:
    """A name of a state.

    Attributes:
        name: Its name.
        entry: Id of the entry it is at.
        message: Free text.
        author: Free text.
        time: When it was made, ISO 8601 UTC; empty where that is not known.
    """

    name: str
    entry: str
    message: str = ""
    author: str = ""
    time: str = ""


def tags(connection: Connection) -> list[Tag]:
    """All tags, by name."""
    found = connection.execute(select(Refs.name, Refs.entry).where(Refs.name.startswith(PREFIX)).order_by(Refs.name))
    refs = [(row.name, str(row.entry)) for row in found]
    if not refs:
        return []
    said = {
        row.key: _said(row.value)
        for row in connection.execute(select(Meta.key, Meta.value).where(Meta.key.startswith(PREFIX)))
    }
    return [Tag(name.removeprefix(PREFIX), entry, **said.get(name, {})) for name, entry in refs]


def _said(text: str) -> dict[str, str]:
    try:
        found: Any = json.loads(text)
        return {name: found[name] for name in ("message", "author", "time") if isinstance(found.get(name), str)}
    except (ValueError, AttributeError, RecursionError):
        return {}  # the tag is where it is, whatever was said of it


def check_put(connection: Connection, name: str, entry: str, *, force: bool) -> str | None:
    """Where a tag is that may be put; None where there is none of this name.

    Raises:
        InputError: a name that cannot be one, that a branch has, or whose tag is elsewhere and ``force`` is not set.
    """
    branches.check_name(name, "tag")
    if name in branches.branches(connection):
        raise InputError(f"'{name}' is a branch; give the tag another name")
    old = rows.tip(connection, PREFIX + name)
    if old is not None and not force:
        raise InputError(
            f"tag '{name}' is there already, at {old[:12]}; a tag stays where it is: choose another name, or move it "
            "with --force"
        )
    return old


def put(connection: Connection, tag: Tag, *, force: bool = False) -> str | None:
    """Make a tag, or move one with ``force``; returns where it was. Errors as for `check_put`."""
    old = check_put(connection, tag.name, tag.entry, force=force)
    ref = PREFIX + tag.name
    text = f"tag: {tag.name} at {tag.entry[:12]}"
    if old is None:
        rows.create_ref(connection, ref, tag.entry, time=utc_now(), message=text)
    else:
        rows.move_ref(connection, ref, old, tag.entry, time=utc_now(), message=text)
    said = {"message": tag.message, "author": tag.author, "time": tag.time}
    connection.execute(delete(Meta).where(Meta.key == ref))
    connection.execute(insert(Meta), [{"key": ref, "value": canonical_json(said)}])
    return old


def require(connection: Connection, name: str) -> str:
    """The entry a tag is at.

    Raises:
        InputError: there is no such tag; the message lists them.
    """
    found = rows.tip(connection, PREFIX + name)
    if found is None:
        there = ", ".join(tag.name for tag in tags(connection)) or "none"
        raise InputError(f"no tag '{name}' (there are: {there})")
    return found


def remove(connection: Connection, name: str) -> str:
    """Delete a tag and return where it was; errors as for `require`."""
    old = require(connection, name)
    ref = PREFIX + name
    connection.execute(delete(Refs).where(Refs.name == ref))
    connection.execute(delete(Meta).where(Meta.key == ref))
    rows.log_move(connection, ref, old, None, time=utc_now(), message=f"tag: {name} deleted")
    return old
