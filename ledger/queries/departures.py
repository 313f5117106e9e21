"""What moved a branch away from an entry, as far as the reflog still tells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import Connection, select

from ledger.database import rows
from ledger.database.schema import Reflog
from ledger.history.rewrites import Event


def departure(connection: Connection, nodes: Mapping[str, rows.EntryNode], entry: str) -> Event | None:
    """The last move of a ref from a state whose history has an entry to one whose history has not.

    Args:
        connection: An open transaction.
        nodes: All entries by id.
        entry: Id of the entry.

    Returns:
        The move, with the ref as its ``entry`` and the reflog's line as its message; None where no move is known.
    """
    children: dict[str, list[str]] = defaultdict(list)
    for node in nodes.values():
        if node.parents:
            children[node.parents[0]].append(node.id)
    after, waiting = {entry}, [entry]
    while waiting:
        more = [child for child in children[waiting.pop()] if child not in after]
        after.update(more)
        waiting += more
    columns = (Reflog.ref, Reflog.old, Reflog.new, Reflog.time, Reflog.message)
    for ref, old, new, time, message in connection.execute(select(*columns).order_by(Reflog.number.desc())):
        if ref != rows.HEAD and old in after and new not in after:
            return Event(ref, "move", time, message=message)
    return None
