"""The reflog: every move of every branch, by which anything that was ever at a branch can be found again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from ledger.database import rows
from ledger.database.schema import Reflog
from ledger.queries import branches
from seqedit.errors import InputError


@dataclass(frozen=True)
class Move:
    """One move of a branch (or of HEAD to another branch).

    Attributes:
        number: Its number, growing with time.
        ref: The branch, or ``HEAD``.
        old: Id of the entry it was at; None where the branch was made.
        new: Id of the entry it is at since; None where the branch was deleted.
        time: ISO 8601, UTC.
        message: What moved it.
    """

    number: int
    ref: str
    old: str | None
    new: str | None
    time: str
    message: str


def moves(connection: Connection, ref: str | None = None, limit: int | None = None) -> list[Move]:
    """Moves of one ref, or of all, newest first.

    Raises:
        InputError: nothing of that name ever moved; the message lists what did.
    """
    query = select(Reflog).order_by(Reflog.number.desc()).limit(limit)
    if ref is not None:
        query = query.where(Reflog.ref == ref)
    found = [
        Move(row.number, row.ref, row.old, row.new, row.time, row.message)
        for row in connection.execute(query.with_only_columns(*Reflog.__table__.c))
    ]
    if not found and ref not in (None, rows.HEAD) and limit != 0:
        there = list(connection.execute(select(Reflog.ref).distinct().order_by(Reflog.ref)).scalars())
        raise branches.unknown(str(ref), there)
    return found


def last_move(connection: Connection, branch: str, *, lock: bool = False) -> Move:
    """The last move of a branch.

    Raises:
        InputError: there is no such branch, or it has only just been made.
    """
    branches.require(connection, branch, lock=lock)
    last = moves(connection, branch, 1)
    if not last or last[0].old is None or last[0].new is None:
        raise InputError(f"branch '{branch}' has not moved since it was made: nothing to undo")
    return last[0]


def undo(connection: Connection, branch: str, message: str | None = None) -> Move:
    """Take back the last move of a branch, with a line of the reflog of one's own; errors as for `last_move`."""
    last = last_move(connection, branch, lock=True)
    assert last.old is not None
    branches.reset(connection, branch, last.old, expected=last.new, message=message or f"undo: {last.message}")
    return last
