"""Entries, refs and scores as database rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ledger.database.fact_keys import fact_digest, folded, subject_digest
from ledger.database.schema import Base, Entries, EntryParents, EntryTargets, Meta, Objects, Reflog, Refs, Requests
from ledger.errors import Conflict
from ledger.history.entries import Entry, content_id
from ledger.objects.manifest import FileInfo, Manifest
from seqedit.errors import CheckFailed
from seqedit.facts.requests import ORIGIN

HEAD = "HEAD"
_TELLS = "tells:"
_CHUNK = 500  # how many ids one query names; every database takes this many


@dataclass(frozen=True)
class EntryNode:
    """What the graph algebra needs of an entry, without its requests."""

    id: str
    operation: str
    parents: tuple[str, ...]
    adapter: str | None
    targets: tuple[str, ...]
    generation: int


def load_nodes(connection: Connection) -> dict[str, EntryNode]:
    """All entries by id, in order of generation."""
    parents, targets = defaultdict(list), defaultdict(list)
    for entry, parent in connection.execute(
        select(EntryParents.entry, EntryParents.parent).order_by(EntryParents.entry, EntryParents.position)
    ):
        parents[entry].append(parent)
    for entry, target in connection.execute(
        select(EntryTargets.entry, EntryTargets.target).order_by(EntryTargets.entry, EntryTargets.position)
    ):
        targets[entry].append(target)
    rows = connection.execute(
        select(Entries.id, Entries.operation, Entries.adapter, Entries.generation).order_by(
            Entries.generation, Entries.id
        )
    )
    return {
        row.id: EntryNode(
            row.id, row.operation, tuple(parents[row.id]), row.adapter, tuple(targets[row.id]), row.generation
        )
        for row in rows
    }


def load_entries(connection: Connection, ids: Iterable[str]) -> list[Entry]:
    """Entries in the order of ``ids``.

    Raises:
        CheckFailed: an entry is missing, or its content is not what its id names.
    """
    wanted = list(ids)
    found: dict[str, Entry] = {}
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        for row in connection.execute(select(Entries.id, Entries.content).where(Entries.id.in_(chunk))):
            if content_id(row.content) != row.id:
                raise CheckFailed(f"entry {row.id[:12]}: its content is not what its id names; run verify")
            found[row.id] = Entry.from_content(row.content)
    missing = [i for i in wanted if i not in found]
    if missing:
        raise CheckFailed(f"entry {missing[0][:12]} is missing from the database; run verify")
    return [found[i] for i in wanted]


def telling(connection: Connection, ids: Iterable[str]) -> list[str]:
    """Those of some entries that give a reason or an origin, or keep what a rebase did, in the order given.

    Only their contents say so; which they are is noted when they are inserted, so that no other content need be read.
    """
    keys = connection.execute(select(Meta.key).where(Meta.key.startswith(_TELLS))).scalars()
    found = {key.removeprefix(_TELLS) for key in keys}
    return [identifier for identifier in ids if identifier in found]


def forget_telling(connection: Connection, ids: Iterable[str]) -> None:
    """Forget which of some entries, which are no longer there, told something."""
    for identifier in telling(connection, ids):
        connection.execute(delete(Meta).where(Meta.key == _TELLS + identifier))


def rows_of(entry: Entry, generation: int) -> dict[type[Base], list[dict[str, Any]]]:
    """All rows of an entry by table; what is inserted, and what verification expects to find."""
    return {
        Entries: [
            {
                "id": entry.id,
                "generation": generation,
                "operation": entry.operation,
                "adapter": entry.adapter,
                "base_fingerprint": entry.base_model.fingerprint,
                "method": dict(entry.method),
                "n_requests": len(entry.requests),
                "author": entry.author,
                "time": entry.time,
                "message": entry.message,
                "content": entry.content,
            }
        ],
        EntryParents: [{"entry": entry.id, "position": i, "parent": p} for i, p in enumerate(entry.parents)],
        EntryTargets: [{"entry": entry.id, "position": i, "target": t} for i, t in enumerate(entry.targets)],
        Requests: [
            {
                "entry": entry.id,
                "position": position,
                "subject": request.subject,
                "relation": request.named_relation,
                "prompt": request.prompt,
                "target_new": request.target_new,
                "target_true": request.target_true,
                "case_id": None if request.case_id is None else str(request.case_id),
                **{name: getattr(request, name) for name in ORIGIN},
                "subject_digest": subject_digest(request.subject),
                "fact_digest": fact_digest(request.subject, request.named_relation),
                "subject_folded": folded(request.subject),
            }
            for position, request in enumerate(entry.requests)
        ],
    }


def insert_entry(connection: Connection, entry: Entry, generation: int) -> None:
    """Insert an entry with its parents, targets and requests.

    One that is there already, left by a branch that was reset, is the same entry and stays.
    """
    if connection.execute(select(Entries.id).where(Entries.id == entry.id)).first() is not None:
        return
    for table, rows in rows_of(entry, generation).items():
        if rows:
            connection.execute(insert(table), rows)
    if entry.tells:
        connection.execute(delete(Meta).where(Meta.key == _TELLS + entry.id))  # of one that was collected
        connection.execute(insert(Meta), [{"key": _TELLS + entry.id, "value": ""}])


def load_manifest(connection: Connection, digest: str) -> Manifest | None:
    """The recorded manifest of an object, or None."""
    return load_manifests(connection, digest).get(digest)


def load_manifests(connection: Connection, digest: str | None = None) -> dict[str, Manifest]:
    """Recorded manifests by digest: of one object, or of all."""
    query = select(Objects.digest, Objects.file, Objects.sha256, Objects.size).order_by(Objects.digest, Objects.file)
    files: dict[str, dict[str, FileInfo]] = defaultdict(dict)
    for row in connection.execute(query if digest is None else query.where(Objects.digest == digest)):
        files[row.digest][row.file] = FileInfo(row.sha256, row.size)
    return {key: Manifest(key, value) for key, value in files.items()}


def record_manifest(connection: Connection, manifest: Manifest) -> None:
    """Record an object's files. The bytes may differ from those of an earlier put of the same content."""
    if load_manifest(connection, manifest.digest) == manifest:
        return
    connection.execute(delete(Objects).where(Objects.digest == manifest.digest))
    connection.execute(
        insert(Objects),
        [
            {"digest": manifest.digest, "file": name, "sha256": info.sha256, "size": info.size}
            for name, info in manifest.files.items()
        ],
    )


def head(connection: Connection, *, lock: bool = False) -> tuple[str, str]:
    """Branch that HEAD names and the entry it is at.

    Args:
        connection: An open transaction.
        lock: Keep other writers from moving the branch until the transaction ends (where the database has row
            locks; SQLite's write transactions exclude each other anyway).

    Raises:
        CheckFailed: HEAD or its branch is gone.
    """
    branch = connection.execute(select(Refs.symbolic).where(Refs.name == HEAD)).scalar_one_or_none()
    entry = None if branch is None else tip(connection, branch, lock=lock)
    if branch is None or entry is None:
        raise CheckFailed("HEAD names no branch with an entry; run verify")
    return branch, entry


def tip(connection: Connection, branch: str, *, lock: bool = False) -> str | None:
    """The entry a branch is at, or None where there is no such branch; ``lock`` as for `head`."""
    query = select(Refs.entry).where(Refs.name == branch)
    return connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()


def move_ref(connection: Connection, ref: str, old: str, new: str, *, time: str, message: str) -> None:
    """Move a branch by compare-and-swap and log the move.

    Raises:
        Conflict: the branch is not at ``old``.
    """
    moved = connection.execute(update(Refs).where(Refs.name == ref, Refs.entry == old).values(entry=new))
    if moved.rowcount != 1:
        found = connection.execute(select(Refs.entry).where(Refs.name == ref)).scalar_one_or_none()
        raise Conflict(ref, old, found)
    log_move(connection, ref, old, new, time=time, message=message)


def create_ref(connection: Connection, ref: str, entry: str, *, time: str, message: str) -> None:
    """Make a branch and log it."""
    connection.execute(insert(Refs), [{"name": ref, "entry": entry, "symbolic": None}])
    log_move(connection, ref, None, entry, time=time, message=message)


def log_move(connection: Connection, ref: str, old: str | None, new: str | None, *, time: str, message: str) -> None:
    """Write one line of the reflog."""
    row: Mapping[str, Any] = {"ref": ref, "old": old, "new": new, "time": time, "message": message}
    connection.execute(insert(Reflog), [row])
