"""Names of entries: full id, unique prefix, branch, tag, HEAD, and ``~N`` steps back from any of them."""

from __future__ import annotations

import re

from sqlalchemy import Connection, select

from ledger.database import rows
from ledger.database.schema import Entries, Refs
from ledger.history.entries import short_ids
from ledger.names import is_digest
from ledger.queries.branches import TAG_PREFIX
from ledger.queries.histories import ancestor
from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean

MIN_PREFIX = 4
_REVISION = re.compile(r"(?P<base>[^~]+)(?P<steps>(?:~[0-9]*)*)")
_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_SHOWN = 8


def resolve(connection: Connection, revision: str) -> str:
    """Id of the entry that a revision names.

    Raises:
        InputError: it names none, several (the message lists them), or goes back beyond the root.
    """
    match = _REVISION.fullmatch(revision) if isinstance(revision, str) else None
    if match is None:
        raise InputError(
            f"{revision!r} is no revision; use an entry id, a unique prefix, a branch, a tag, HEAD or HEAD~2"
        )
    identifier = _base(connection, match["base"])
    steps = sum(int(step or 1) for step in match["steps"].split("~")[1:])
    if not steps:
        return identifier
    found, done = ancestor(connection, identifier, steps)
    if done < steps:
        raise InputError(f"'{revision}' goes {steps} steps back, but the history has only {done} before it")
    return found


def _base(connection: Connection, name: str) -> str:
    if name == rows.HEAD:
        return rows.head(connection)[1]
    ref = rows.tip(connection, name) or rows.tip(connection, TAG_PREFIX + name)
    if ref is not None:
        return ref
    if not _PREFIX.fullmatch(name):
        short = " (a prefix has at least 4 hex digits)" if re.fullmatch(r"[0-9a-f]{1,3}", name) else ""
        hint = "" if short else did_you_mean(name, [*_names(connection), rows.HEAD])
        raise InputError(f"no entry or branch '{name}'{short}; see log for the entries{hint}")
    where = Entries.id == name if is_digest(name) else Entries.id.startswith(name)
    found = connection.execute(select(Entries.id).where(where).order_by(Entries.id).limit(_SHOWN + 1)).scalars().all()
    if not found:
        raise InputError(f"no entry '{name}'; see log for the entries")
    if len(found) > 1:
        more = ", ..." if len(found) > _SHOWN else ""
        raise InputError(f"'{name}' is ambiguous: {short_ids(found[:_SHOWN])}{more}; give more digits")
    return str(found[0])


def _names(connection: Connection) -> list[str]:
    """The names that lead to an entry."""
    found = connection.execute(select(Refs.name).where(Refs.entry.is_not(None)).order_by(Refs.name)).scalars()
    return [str(name).removeprefix(TAG_PREFIX) for name in found]
