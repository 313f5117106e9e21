"""Branches: names of states that move on when an entry is appended."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import Connection, delete, select, update

from ledger.database import rows
from ledger.database.schema import Refs
from ledger.history.entries import utc_now
from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
# A revision of hex digits alone names an entry.
_LIKE_AN_ID = re.compile(r"[0-9a-f]{4,64}")
TAG_PREFIX = "tag:"
"""How the refs that are tags (`ledger.queries.tags`) begin; ':' can be in no branch's name."""


def check_name(name: str, what: str = "branch") -> str:
    """The name itself, if a branch, or a tag, can have it.

    Raises:
        InputError: it could be taken for something else, or has characters that revisions use.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _LIKE_AN_ID.fullmatch(name) or name == rows.HEAD:
        raise InputError(
            f"{name!r} cannot name a {what}: use letters, digits, '.', '_', '-' and '/', starting with a letter or "
            f"digit, and neither {rows.HEAD} nor hex digits alone"
        )
    return name


def branches(connection: Connection) -> dict[str, str]:
    """Branch name -> id of the entry it is at, sorted by name."""
    query = select(Refs.name, Refs.entry).where(Refs.entry.is_not(None), Refs.name.not_like(f"{TAG_PREFIX}%"))
    found = connection.execute(query.order_by(Refs.name))
    return {row.name: row.entry for row in found}


def check_start(connection: Connection, name: str) -> None:
    """Refuse a name that cannot be one, or is taken.

    Raises:
        InputError: says which.
    """
    if check_name(name) in branches(connection):
        raise InputError(f"branch '{name}' is there already")
    if is_tag(connection, name):
        raise InputError(f"'{name}' is a tag; give the branch another name")


def is_tag(connection: Connection, name: str) -> bool:
    """Whether there is a tag of this name."""
    return rows.tip(connection, TAG_PREFIX + name) is not None


def no_branch(connection: Connection, name: str) -> InputError:
    """The error that names a branch that is not there, and what can be done instead."""
    if is_tag(connection, name):
        return InputError(
            f"'{name}' is a tag, which stays where it is; start a branch there: `seqedit branch NAME {name}`"
        )
    return unknown(name, branches(connection))


def unknown(name: str, known: Iterable[str]) -> InputError:
    """The error of a branch that there is not; the message lists them."""
    there = list(known)
    return InputError(f"no branch '{name}' (there are: {', '.join(there)}){did_you_mean(name, there)}")


def start(connection: Connection, name: str, entry: str) -> None:
    """Make a branch at an entry; errors as for `check_start`."""
    check_start(connection, name)
    rows.create_ref(connection, name, entry, time=utc_now(), message=f"branch: {name} at {entry[:12]}")


def switch(connection: Connection, name: str) -> None:
    """Make HEAD name a branch.

    Raises:
        InputError: there is no such branch; the message lists them.
    """
    known = branches(connection)
    if name not in known:
        raise no_branch(connection, name)
    old = rows.head(connection)[1]
    connection.execute(update(Refs).where(Refs.name == rows.HEAD).values(symbolic=name))
    rows.log_move(connection, rows.HEAD, old, known[name], time=utc_now(), message=f"switch: to {name}")


def require(connection: Connection, name: str, *, lock: bool = False) -> str:
    """The entry a branch is at.

    Raises:
        InputError: there is no such branch; the message lists them.
    """
    found = rows.tip(connection, name, lock=lock)
    if found is None or name == rows.HEAD or name.startswith(TAG_PREFIX):
        raise no_branch(connection, name)
    return found


def reset(connection: Connection, name: str, entry: str, *, expected: str | None, message: str) -> str:
    """Put a branch at another entry; where it was stays in the reflog.

    Args:
        connection: An open writing transaction.
        name: The branch.
        entry: Where it shall be.
        expected: Where it must be now, or None.
        message: Line of the reflog.

    Returns:
        Where it was.

    Raises:
        InputError: there is no such branch.
        Conflict: it is not at ``expected``.
    """
    old = require(connection, name, lock=True)
    rows.move_ref(connection, name, old if expected is None else expected, entry, time=utc_now(), message=message)
    return old


def check_remove(connection: Connection, name: str, *, lock: bool = False) -> str:
    """The entry of a branch that may be deleted.

    Raises:
        InputError: there is no such branch, or HEAD is on it.
    """
    old = require(connection, name, lock=lock)
    if rows.head(connection)[0] == name:
        raise InputError(f"HEAD is on branch '{name}'; check out another one first")
    return old


def remove(connection: Connection, name: str) -> str:
    """Delete a branch and return where it was; its entries stay until they are collected.

    Errors as for `check_remove`.
    """
    old = check_remove(connection, name, lock=True)
    connection.execute(delete(Refs).where(Refs.name == name))
    rows.log_move(connection, name, old, None, time=utc_now(), message=f"branch: {name} deleted")
    return old
