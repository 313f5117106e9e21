"""Checking everything a ledger promises about what it stores.

This finds accidents: a flipped bit, a lost file, a half-copied directory. Someone who rewrites database and objects
together, digests included, goes unnoticed unless entries are signed and the signers are given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from ledger.database import rows
from ledger.database.database import Database
from ledger.database.schema import (
    Base,
    Entries,
    EntryParents,
    EntryTargets,
    Meta,
    Objects,
    Reflog,
    Refs,
    Requests,
    Scores,
)
from ledger.history import graph
from ledger.history.entries import Entry, content_id
from ledger.objects.manifest import FileInfo, Manifest
from ledger.objects.objects import ObjectStore
from ledger.problems import Code, Problem
from ledger.upkeep.signers import ancestors, check_signatures, check_signers, has_entry
from seqedit.adapters.base import BaseModel
from seqedit.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from seqedit.adapters.adapter import Adapter

_CHUNK = 200


def verify(
    database: Database,
    store: ObjectStore,
    base_model: BaseModel,
    *,
    deep: bool = True,
    signers: Collection[str] | None = None,
    at_least: str | None = None,
) -> list[Problem]:
    """Check database and objects; see `ledger.reading.Reader.verify`."""
    # These need torch, and whoever asks for `check_entries` alone does not.
    from ledger.states.proof import prove_snapshots
    from ledger.states.snapshots import check_snapshots
    from ledger.upkeep.verify_objects import verify_objects

    problems: list[Problem] = []
    users: dict[str, list[str]] = defaultdict(list)
    manifests: dict[str, Manifest] = {}
    try:
        with database.read() as connection:
            problems += _sqlite_pages(database, connection) if deep else []
            if deep:
                _read_all(connection)
            nodes = rows.load_nodes(connection)
            problems += check_entries(connection, nodes, base_model, database.name)
            problems += _histories(nodes)
            problems += _refs(connection, nodes)
            problems += check_signatures(connection, nodes)
            problems += [] if signers is None else check_signers(connection, nodes, signers)
            problems += [] if at_least is None else _rolled_back(connection, nodes, at_least)
            for node in nodes.values():
                if node.adapter is not None:
                    users[node.adapter].append(node.id)
            problems += check_snapshots(connection, store, deep=deep)
            manifests, found = _manifests(connection)
            problems += found
        found = verify_objects(
            store, manifests, users, deep=deep, entry_of=_entry_loader(database), signed=signers is not None
        )
        problems += _still_recorded(database, store, manifests, found) if found else []
        if deep:
            with database.read() as connection:
                problems += prove_snapshots(connection, store, nodes, manifests, loader(store))
    except (CheckFailed, ValueError) as error:  # a JSON column that no longer is JSON is a ValueError
        problems.append(Problem(Code.DAMAGED_DATABASE, database.name, str(error)))
    return sorted(set(problems))


def loader(store: ObjectStore) -> Callable[[str], Adapter]:
    """Loads an adapter by digest, and believes nothing but its content."""

    from seqedit.adapters.adapter import Adapter

    def load(digest: str) -> Adapter:
        with store.directory(digest) as directory:
            adapter = Adapter.from_pretrained(directory)
        if adapter.digest != digest:
            raise CheckFailed(f"object {digest[:12]} holds adapter {adapter.digest[:12]} instead")
        return adapter

    return load


def _still_recorded(
    database: Database, store: ObjectStore, manifests: Mapping[str, Manifest], problems: Sequence[Problem]
) -> list[Problem]:
    """The problems without those of objects that were collected since the database was read: nobody needs them."""
    with database.read() as connection:
        now, _ = _manifests(connection)
    collected = tuple(f"objects/{store.path(digest)}" for digest in set(manifests) - set(now))
    return [problem for problem in problems if not (collected and problem.path.startswith(collected))]


def _sqlite_pages(database: Database, connection: Connection) -> Iterator[Problem]:
    if database.file is None:
        return
    for pragma in ("integrity_check", "foreign_key_check"):
        for row in connection.exec_driver_sql(f"PRAGMA {pragma}"):
            if tuple(row) != ("ok",):
                detail = f"{pragma}: {' '.join(str(value) for value in row)}"
                yield Problem(Code.DAMAGED_DATABASE, database.name, detail)


def _read_all(connection: Connection) -> None:
    """Read what nothing below reads; rows that cannot be decoded raise."""
    for table in (Meta, Reflog, Scores):
        for _ in connection.execute(select(table.__table__)):
            pass


def check_entries(
    connection: Connection, nodes: Mapping[str, rows.EntryNode], base_model: BaseModel, database: str
) -> Iterator[Problem]:
    """The id of every entry, and that its rows say what its content says."""
    ids = list(nodes)
    telling = set(rows.telling(connection, ids))
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        found = _stored_rows(connection, chunk)
        for identifier in chunk:
            where = f"entries/{identifier}"
            if not found[identifier][Entries]:
                detail = f"the row of entry {identifier[:12]} is not found by its id: an index is damaged"
                yield Problem(Code.DAMAGED_DATABASE, database, detail)
                continue
            content = found[identifier][Entries][0]["content"]
            if content_id(content) != identifier:
                yield Problem(Code.ENTRY_ID, where, "the entry's content is not what its id names")
                continue
            try:
                entry = Entry.from_content(content)
            except InputError as error:
                yield Problem(Code.ENTRY_ID, where, f"the entry cannot be read: {error}")
                continue
            for table, expected in rows.rows_of(entry, nodes[identifier].generation).items():
                if found[identifier][table] != expected:
                    detail = f"table {table.__tablename__} does not say what the entry's content says"
                    yield Problem(Code.ENTRY_ROW, where, detail)
            if entry.tells != (identifier in telling):
                detail = "table meta does not say whether the entry gives a reason, an origin or a rewrite"
                yield Problem(Code.ENTRY_ROW, where, detail)
            if entry.base_model.fingerprint != base_model.fingerprint:
                yield Problem(Code.INVALID_HISTORY, where, "the entry is of another base model than the ledger")
            if entry.operation == "root" and entry.base_model.name != base_model.name:
                detail = f"the ledger says its base model is '{base_model.name[:100]}', its root says another name"
                yield Problem(Code.INVALID_HISTORY, where, detail)


def _stored_rows(connection: Connection, ids: list[str]) -> dict[str, dict[type[Base], list[dict[str, Any]]]]:
    found: dict[str, dict[type[Base], list[dict[str, Any]]]] = {
        i: {Entries: [], EntryParents: [], EntryTargets: [], Requests: []} for i in ids
    }
    table: type[Any]
    for table, key, order in (
        (Entries, Entries.id, Entries.id),
        (EntryParents, EntryParents.entry, EntryParents.position),
        (EntryTargets, EntryTargets.entry, EntryTargets.position),
        (Requests, Requests.entry, Requests.position),
    ):
        for row in connection.execute(select(table.__table__).where(key.in_(ids)).order_by(key, order)):
            values = dict(row._mapping)
            found[values["id" if table is Entries else "entry"]][table].append(values)
    return found


def _histories(nodes: Mapping[str, rows.EntryNode]) -> Iterator[Problem]:
    """Parents exist and are one generation older; operations act on what they may act on."""
    children = {parent for node in nodes.values() for parent in node.parents}
    for node in nodes.values():
        for identifier in node.parents:
            if identifier not in nodes:
                yield Problem(Code.BROKEN_PARENT, f"entries/{node.id}", f"its parent {identifier[:12]} is missing")
        parent = nodes.get(node.parents[0]) if node.parents else None
        if parent is not None and node.generation != parent.generation + 1:
            yield Problem(Code.ENTRY_ROW, f"entries/{node.id}", f"generation {node.generation} is wrong")
    for tip in sorted(set(nodes) - children):
        try:
            history = graph.first_parent_history(nodes, tip)
        except InputError:
            continue  # the missing parent was named above, and a circle has no tip
        for identifier, why in graph.check_history(history):
            yield Problem(Code.INVALID_HISTORY, f"entries/{identifier}", why)
    if nodes and not any(node.operation == "root" for node in nodes.values()):
        yield Problem(Code.BROKEN_PARENT, "entries", "no entry is a root")


def _refs(connection: Connection, nodes: Mapping[str, rows.EntryNode]) -> Iterator[Problem]:
    """Every ref leads to an entry, and branches are where their log says."""
    logged: dict[str, str | None] = {}
    for row in connection.execute(select(Reflog.ref, Reflog.new).order_by(Reflog.number)):
        logged[row.ref] = row.new
    refs = {row.name: row for row in connection.execute(select(Refs.name, Refs.entry, Refs.symbolic))}
    if rows.HEAD not in refs:
        yield Problem(Code.DANGLING_REF, f"refs/{rows.HEAD}", "HEAD is missing")
    for name, ref in refs.items():
        where = f"refs/{name}"
        if ref.symbolic is not None:
            if ref.symbolic not in refs:
                yield Problem(Code.DANGLING_REF, where, f"it names branch '{ref.symbolic}', which is missing")
        elif ref.entry not in nodes:
            yield Problem(Code.DANGLING_REF, where, f"it names entry {str(ref.entry)[:12]}, which is missing")
        elif logged.get(name) != ref.entry:
            detail = f"it is at {ref.entry[:12]}, its log says {str(logged.get(name))[:12]}"
            yield Problem(Code.UNLOGGED_REF, where, detail)


def _rolled_back(connection: Connection, nodes: Mapping[str, rows.EntryNode], known: str) -> Iterator[Problem]:
    """That HEAD has the newest known entry in its history; refs are not signed, so nothing else tells."""
    try:
        branch, tip = rows.head(connection)
    except CheckFailed:
        return  # `_refs` names it
    if not has_entry(ancestors(nodes, [tip]), known):
        detail = f"branch '{branch}' is at {tip[:12]}, whose history does not have {known[:12]}"
        yield Problem(Code.ROLLED_BACK, f"refs/{branch}", detail)


def _manifests(connection: Connection) -> tuple[dict[str, Manifest], list[Problem]]:
    """Recorded manifests; one that cannot be is a problem and is left out."""
    manifests, problems = {}, []
    recorded: dict[str, dict[str, FileInfo]] = defaultdict(dict)
    query = select(Objects.digest, Objects.file, Objects.sha256, Objects.size)
    for digest, file, sha256, size in connection.execute(query.order_by(Objects.digest, Objects.file)):
        recorded[digest][file] = FileInfo(sha256, size)
    for digest, files in recorded.items():
        try:
            manifests[digest] = Manifest(digest, files)
        except InputError as error:
            problems.append(Problem(Code.UNRECORDED_OBJECT, f"objects/{digest!r}", f"recorded wrongly: {error}"))
    return manifests, problems


def _entry_loader(database: Database) -> Callable[[Iterable[str]], list[Entry]]:
    def load(ids: Iterable[str]) -> list[Entry]:
        with database.read() as connection:
            return rows.load_entries(connection, ids)

    return load
