"""Garbage collection: removing what nothing leads to any more.

Entries are removed first, in one transaction; then the objects that no entry uses, while no writer can commit. So a
collection that is killed leaves a sound ledger and at worst objects that the next one removes, and a writer that took
an object over either keeps it or is told, before it has recorded anything, that it is gone.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection, Table, delete, select, update

from ledger.database import rows
from ledger.database.database import Database
from ledger.database.schema import Base, Entries, Objects, Reflog, Refs
from ledger.database.store_users import Users, enter
from ledger.errors import failures
from ledger.history.entries import TIME_FORMAT
from ledger.names import is_digest
from ledger.objects.objects import TEMPORARY, ObjectStore, is_unfinished_marker
from seqedit.errors import CheckFailed

KEEP_DAYS = 90.0
GRACE_SECONDS = 3600.0
T = TypeVar("T")
_CHUNK = 200  # how many ids one statement names, and how many objects are removed while writers wait


@dataclass(frozen=True)
class RemovedEntry:
    """An entry that nothing leads to."""

    id: str
    operation: str
    message: str


@dataclass(frozen=True)
class RemovedFiles:
    """An object that no entry uses, or what an interrupted writer left behind.

    Attributes:
        path: Its path in the store.
        size: Bytes of its files.
    """

    path: str
    size: int


@dataclass(frozen=True)
class Garbage:
    """What a collection removed, or would remove.

    Attributes:
        entries: Entries, oldest first, with their requests, scores and signatures.
        objects: Objects.
        temporary: Temporary files and objects that were never completed.
        young: How many unused things stay because they are younger than the grace period, or of unknown age.
        unsure: How many objects stay that no registered ledger uses, because a ledger that is not registered might
            (`ledger.objects.marker.Marker.complete`).
    """

    entries: tuple[RemovedEntry, ...]
    objects: tuple[RemovedFiles, ...]
    temporary: tuple[RemovedFiles, ...]
    young: int
    unsure: int = 0

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(files.size for files in (*self.objects, *self.temporary))


def collect(
    database: Database,
    store: ObjectStore,
    *,
    keep_days: float | None = KEEP_DAYS,
    grace: float = GRACE_SECONDS,
    dry_run: bool = False,
    all_registered: bool = False,
    without: Collection[str] = (),
) -> Garbage:
    """Remove what nothing leads to any more.

    Of a store that several ledgers share, an object goes only where none of them uses it; all that are registered with
    it are asked, and locked while something is removed.

    An entry stays where a branch, or a move in the reflog of the last ``keep_days`` days, leads to it or to one of its
    descendants, and where an entry that stays has it among its targets. Lines of the reflog that name a removed entry
    go with it.

    Args:
        database: The ledger's database.
        store: Its objects.
        keep_days: How long the reflog keeps entries; None for not at all.
        grace: Unused objects and temporary files younger than this many seconds stay: a writer may be at work on them.
        dry_run: Change nothing.
        all_registered: Every ledger that uses the store is registered with it; needed once for a store elsewhere than
            in the ledger's directory that was made before stores listed their ledgers.
        without: In a dry run, registrations with the store that are taken to be gone.

    Raises:
        InputError: the store is no store of seqedit's, or in use for something else too; nothing was removed.
        CheckFailed: the history is damaged, so that nothing can be said to be unused; nothing was removed.
        EnvironmentFailure: disk, database or network failed, or a ledger that is registered with the store cannot be
            opened; nothing was removed.
    """
    cutoff = None
    if keep_days is not None:
        cutoff = datetime.fromtimestamp(time.time() - keep_days * 86400, UTC).strftime(TIME_FORMAT)
    with failures(f"object store {store.url}"), Users(database, store, without if dry_run else ()) as users:
        # An empty store has nothing to be removed, and need not be marked for that.
        marker = enter(database, store, write=not dry_run, complete=all_registered) if store.children("") else None
        sure = marker is None or marker.complete
        if dry_run:
            with database.read() as connection:
                entries = _unreachable(connection, cutoff)
                used = _used(connection, {entry.id for entry in entries})
            for other in users.databases():
                if other is not database:
                    with other.read() as connection:
                        used |= _used(connection)
            removals = [item for path in _candidates(store) if (item := _removal(store, path, used, grace, sure))]
        else:
            with database.write() as connection:
                entries = _unreachable(connection, cutoff)
                _remove_entries(connection, [entry.id for entry in entries])
                _forget_objects(connection)
            removals = list(_remove_files(users, store, grace, sure))
            if any(item.kind == "object" for item in removals):
                from ledger.states.snapshots import SnapshotPolicy, Snapshots

                Snapshots(database, store, SnapshotPolicy()).clear()  # their sums may hold what was removed
    return Garbage(
        entries=tuple(entries),
        objects=tuple(item.files for item in removals if item.kind == "object"),
        temporary=tuple(item.files for item in removals if item.kind == "temporary"),
        young=sum(item.kind == "young" for item in removals),
        unsure=sum(item.kind == "unsure" for item in removals),
    )


def _unreachable(connection: Connection, cutoff: str | None) -> list[RemovedEntry]:
    """Entries that nothing leads to, oldest first."""
    nodes = rows.load_nodes(connection)
    kept = _reachable(nodes, _roots(connection, cutoff))
    messages = {row.id: row.message for row in connection.execute(select(Entries.id, Entries.message))}
    return [RemovedEntry(node.id, node.operation, messages[node.id]) for node in nodes.values() if node.id not in kept]


def _roots(connection: Connection, cutoff: str | None) -> set[str]:
    roots = {str(entry) for entry in connection.execute(select(Refs.entry).where(Refs.entry.is_not(None))).scalars()}
    if not roots:
        raise CheckFailed("the ledger has no branch, so nothing can be said to be unused; run verify")
    if cutoff is not None:
        for old, new in connection.execute(select(Reflog.old, Reflog.new).where(Reflog.time >= cutoff)):
            roots |= {entry for entry in (old, new) if entry is not None}
    return roots


def _reachable(nodes: Mapping[str, rows.EntryNode], roots: Iterable[str]) -> set[str]:
    kept: set[str] = set()
    waiting = list(roots)
    while waiting:
        identifier = waiting.pop()
        if identifier in kept:
            continue
        if identifier not in nodes:
            raise CheckFailed(
                f"entry {identifier[:12]} is missing; nothing is collected from a damaged ledger: run verify"
            )
        kept.add(identifier)
        waiting += (*nodes[identifier].parents, *nodes[identifier].targets)
    return kept


def _remove_entries(connection: Connection, ids: list[str]) -> None:
    """Entries with every row about them; children before parents, as the foreign keys ask."""
    gone = set(ids)
    for table in reversed(Base.metadata.sorted_tables):
        if table.name not in (Entries.__tablename__, Refs.__tablename__) and _about_entries(table):
            for chunk in _chunks(ids):
                connection.execute(delete(table).where(table.c.entry.in_(chunk)))
    for chunk in _chunks(ids):
        connection.execute(delete(Entries).where(Entries.id.in_(chunk)))
    rows.forget_telling(connection, ids)
    _forget_moves(connection, gone)


def _about_entries(table: Table) -> bool:
    if "entry" not in table.c:
        return False
    return any(key.column.table.name == Entries.__tablename__ for key in table.c.entry.foreign_keys)


def _forget_moves(connection: Connection, gone: set[str]) -> None:
    """Remove the reflog's lines that name removed entries.

    The newest line of a branch stays, because it says why the branch is where it is; it then starts the branch's log.
    """
    tips = set(connection.execute(select(Refs.name).where(Refs.entry.is_not(None))).scalars())
    newest: dict[str, int] = {}
    naming: dict[int, str] = {}
    moves = select(Reflog.number, Reflog.ref, Reflog.old, Reflog.new).order_by(Reflog.number)
    for row in connection.execute(moves):
        newest[row.ref] = row.number
        if row.old in gone or row.new in gone:
            naming[row.number] = row.ref
    shortened = [number for number, ref in naming.items() if ref in tips and newest[ref] == number]
    for chunk in _chunks(shortened):
        connection.execute(update(Reflog).where(Reflog.number.in_(chunk)).values(old=None))
    for chunk in _chunks([number for number in naming if number not in set(shortened)]):
        connection.execute(delete(Reflog).where(Reflog.number.in_(chunk)))


def _used(connection: Connection, without: Iterable[str] = ()) -> set[str]:
    """Digests of the objects that entries use, all or all but some."""
    left = set(without)
    found = connection.execute(select(Entries.id, Entries.adapter).where(Entries.adapter.is_not(None)))
    return {row.adapter for row in found if row.id not in left}


def _forget_objects(connection: Connection) -> None:
    """Remove the records of objects that no entry uses."""
    recorded = set(connection.execute(select(Objects.digest).distinct()).scalars())
    for chunk in _chunks(sorted(recorded - _used(connection))):
        connection.execute(delete(Objects).where(Objects.digest.in_(chunk)))


@dataclass(frozen=True)
class _Removal:
    kind: str
    files: RemovedFiles


def _remove_files(users: Users, store: ObjectStore, grace: float, sure: bool) -> Iterator[_Removal]:
    for chunk in _chunks(list(_candidates(store))):
        users.refresh()
        # With the locks held no writer can commit an entry that uses what is removed here.
        with ExitStack() as stack:
            used: set[str] = set()
            for database in users.databases():
                used |= _used(stack.enter_context(database.write() if database.writable else database.read()))
            for path in chunk:
                removal = _removal(store, path, used, grace, sure)
                if removal is not None and removal.kind not in ("young", "unsure"):
                    store.remove(path)
                if removal is not None:
                    yield removal


def _candidates(store: ObjectStore) -> Iterator[str]:
    """Paths at which objects or temporary files lie; what else lies in a store is for verify to report."""
    for path in store.objects():
        name = path.rpartition("/")[2]
        if is_digest(name) and path == store.path(name):
            yield path
    yield from (name for name in sorted(store.children("")) if is_unfinished_marker(name))
    if store.children("").get(TEMPORARY, ("other", 0))[0] == "directory":
        yield from (f"{TEMPORARY}/{name}" for name in sorted(store.children(TEMPORARY)))


def _removal(store: ObjectStore, path: str, used: set[str], grace: float, sure: bool) -> _Removal | None:
    """What is to be done with a candidate; None where it stays because it is used or strange."""
    name = path.rpartition("/")[2]
    kind = "temporary"
    if not path.startswith(f"{TEMPORARY}/") and not is_unfinished_marker(path):
        if name in used:
            return None
        owner = store.owner(path)
        if owner not in (name, None):
            return None  # another object under this name: damage, for people to look at
        kind = "temporary" if owner is None else "object"
    usage = store.usage(path)
    if usage is None:
        return None  # its writer has finished, or another collection was faster
    old = grace <= 0 or (usage.modified is not None and time.time() - usage.modified >= grace)
    if not sure and path.count("/") == 1 and not path.startswith(f"{TEMPORARY}/"):
        return _Removal("unsure", RemovedFiles(path, usage.size))
    return _Removal(kind if old else "young", RemovedFiles(path, usage.size))


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
