"""Which ledgers use an object store: each registers in the store itself, so that a collection asks all of them.

A registration is a small file ``ledgers/<digest of its content>.json`` that says where the ledger's database is (never
with a password) and which history it holds. It is written before the first object of a ledger is. The ledger in whose
own directory the store lies needs none: its database is found beside the store, and the two may be moved together.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ledger.database import rows
from ledger.database.database import Database
from ledger.database.schema import Entries, Meta
from ledger.database.upgrade import schema_number
from ledger.objects.local import LocalStore
from ledger.objects.marker import Marker, first_foreign, is_empty, read_marker
from ledger.objects.objects import LEDGERS, ObjectStore
from ledger.url_secrets import is_url, without_password
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError, SeqeditError
from seqedit.support.digests import canonical_json
from seqedit.support.suggestions import did_you_mean

_FILE = re.compile(r"[0-9a-f]{32}\.json")
_BESIDE = "ledger.db"
_SECRETS = ("password", "sslpassword")  # what a PostgreSQL URL's query may hold that nobody else should read


def check_new_store(store: ObjectStore) -> bool:
    """Refuse a directory that is in use for something else as the store of a new ledger.

    Returns:
        Whether the store could be asked. One elsewhere that cannot be reached is asked by the first write (`join`).

    Raises:
        InputError: it is not empty, and no object store.
        EnvironmentFailure: it is a local directory that cannot be read.
    """
    try:
        first = None if read_marker(store) is not None or is_empty(store) else sorted(store.children(""))[0]
    except EnvironmentFailure:
        if isinstance(store, LocalStore):
            raise
        return False
    if first is not None:
        raise InputError(
            f"{store.url} is no object store of seqedit, and it is not empty (it holds '{first}'): a store is tidied "
            "by gc, so it gets a directory of its own. Give a new or empty one; a store of an older version of seqedit "
            "is marked as one by the next writing command on a ledger that uses it"
        )
    return True


def mark_new_store(store: ObjectStore, database: Database, root: str) -> None:
    """Mark the store of a ledger that is being made as a store, unless it is one already; errors as above."""
    if check_new_store(store) and read_marker(store) is None:
        store.mark(Marker.new(root if _beside(store, database) else None).to_bytes())


def join(database: Database, store: ObjectStore) -> None:
    """Register a ledger with its store before it writes there; a store of older versions is marked as one.

    Raises:
        InputError: the store is in use for something else, and nothing of this ledger is in it.
        CheckFailed: the store's marker is damaged.
        EnvironmentFailure: disk, database or network failed.
    """
    try:
        enter(database, store)
    except InputError:
        # A ledger of an older version that shares a directory with other things goes on; only gc will refuse.
        if not _holds_objects_of(database, store):
            raise


def enter(database: Database, store: ObjectStore, *, write: bool = True, complete: bool = False) -> Marker:
    """The store's marker, for a ledger that belongs to it; marker and registration are written where they lack.

    Args:
        database: The ledger's database.
        store: Its object store.
        write: Whether to write; else what would be written is returned.
        complete: Record that every ledger that uses the store is registered.

    Raises:
        InputError: the store is in use for something else.
        CheckFailed: its marker is damaged.
        EnvironmentFailure: disk, database or network failed.
    """
    found = read_marker(store)
    marker = _adopted(database, store) if found is None else found
    if complete:
        marker = marker.confirmed()
    if write:
        if marker != found:
            store.mark(marker.to_bytes())
        record = _record(database, store)
        name = _name(record)
        if not _beside(store, database) and registrations(store).get(name) != record:  # missing, or damaged
            store.write(f"{LEDGERS}/{name}", canonical_json(record).encode(), durable=True)
    return marker


def _adopted(database: Database, store: ObjectStore) -> Marker:
    """The marker of a store that has none yet."""
    beside = _beside(store, database)
    with database.read() as connection:
        root = _root(connection)
    if is_empty(store):
        return Marker.new(root if beside else None)
    if not _holds_objects_of(database, store):
        raise InputError(
            f"{store.url} is not marked as an object store of seqedit, and holds no object of this ledger: nothing is "
            "written or removed there. Where the objects have moved, open the ledger with objects="
        )
    foreign = first_foreign(store)
    if foreign is not None:
        raise InputError(
            f"{store.url} holds '{foreign}', which is not seqedit's, where gc removes whatever lies there: nothing is "
            "removed. Move it elsewhere"
        )
    return Marker.new(root if beside else None, complete=beside)


def _holds_objects_of(database: Database, store: ObjectStore) -> bool:
    with database.read() as connection:
        digests = sorted(rows.load_manifests(connection))
    shards = store.children("") if digests else {}
    return any(digest[:2] in shards and store.owner(store.path(digest)) == digest for digest in digests)


def _beside(store: ObjectStore, database: Database) -> bool:
    """Whether a store lies in the ledger's own directory, and so moves with it and is nobody else's by default."""
    file = database.file
    if file is None or file.name != _BESIDE or not isinstance(store, LocalStore):
        return False
    return store.root.resolve().parent == file.parent.resolve()


def _record(database: Database, store: ObjectStore) -> dict[str, str]:
    """The registration of a ledger."""
    file = database.file
    if file is None:
        where = database.url._replace(password=None).difference_update_query(_SECRETS).render_as_string()
    else:
        where = str(file.resolve())
    with database.read() as connection:
        return {"database": where, "root": _root(connection)}


def _name(record: Mapping[str, str]) -> str:
    return hashlib.sha256(canonical_json(dict(record)).encode()).hexdigest()[:32] + ".json"


def _root(connection: Connection) -> str:
    found = connection.execute(select(Entries.id).where(Entries.operation == "root").limit(1)).scalar()
    if found is None:
        raise CheckFailed("the ledger has no root entry; run verify")
    return str(found)


def count_users(store: ObjectStore) -> int:
    """How many ledgers use a store, without asking them."""
    beside = isinstance(store, LocalStore) and (store.root.resolve().parent / _BESIDE).is_file()
    return len(store.children(LEDGERS)) + beside


def registrations(store: ObjectStore) -> dict[str, dict[str, str] | None]:
    """File name -> registration, None where a file is none."""
    found: dict[str, dict[str, str] | None] = {}
    for name in sorted(store.children(LEDGERS)):
        record = None
        if _FILE.fullmatch(name):
            try:
                with store.open(f"{LEDGERS}/{name}") as stream:
                    data = json.loads(stream.read())
                if isinstance(data, dict) and set(data) == {"database", "root"} and _name(data) == name:
                    record = data
            except FileNotFoundError:
                continue  # unregistered meanwhile
            except (ValueError, TypeError, RecursionError):
                record = None
        found[name] = record
    return found


class Users:
    """The databases of all ledgers that are registered with a store, opened to be asked and locked; close it.

    Args:
        database: The database of the ledger that asks, which is one of them.
        store: The store.
        without: Names of registrations that are not asked, as if they were gone.

    Raises:
        EnvironmentFailure: a registered ledger cannot be opened; the message names all of them.
    """

    def __init__(self, database: Database, store: ObjectStore, without: Iterable[str] = ()) -> None:
        self.own, self.store = database, store
        self._opened: dict[str, Database] = {}
        self._known: set[str] = set(without)
        self._stack = ExitStack()
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """Open ledgers that have registered since."""
        if self._known >= {_BESIDE, *self.store.children(LEDGERS)}:
            return
        own = _name(_record(self.own, self.store))
        failed = []
        found: dict[str, dict[str, str] | None] = {**registrations(self.store)}
        if isinstance(self.store, LocalStore):
            beside = self.store.root.resolve().parent / _BESIDE
            if beside.is_file():  # the ledger whose directory this is needs no registration
                found[_BESIDE] = {"database": str(beside)}
        self._known.add(_BESIDE)
        for name, record in found.items():
            if name in self._known and name != _BESIDE:
                continue
            self._known.add(name)
            if name == own:
                continue
            try:
                opened = _open(record, self.own)
            except SeqeditError as error:
                failed.append(f"{LEDGERS}/{name}" + (f" ({_shown(record)})" if record else "") + f": {error}")
                continue
            if any(_same(opened, known) for known in (self.own, *self._opened.values())):
                opened.close()  # one ledger by two ways
                continue
            self._opened[name] = opened
            self._stack.callback(opened.close)
        if failed:
            raise EnvironmentFailure(
                f"the object store {self.store.url} is used by {len(failed)} registered ledger(s) that cannot be "
                f"opened, so nothing is removed: {'; '.join(failed)}. Make them reachable; one that is gone for good "
                "is unregistered with `seqedit gc --forget-ledger PLACE`, PLACE being what is in parentheses"
            )

    def databases(self) -> list[Database]:
        """All databases, in an order that is the same for whoever locks them."""
        return sorted((self.own, *self._opened.values()), key=_place)

    def close(self) -> None:
        """Close the other ledgers' databases."""
        self._stack.close()

    def __enter__(self) -> Users:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shown(record: Mapping[str, str]) -> str:
    return without_password(record["database"])


def _open(record: Mapping[str, str] | None, own: Database) -> Database:
    if record is None:
        raise CheckFailed("the registration is damaged")
    where = record["database"]
    if is_url(where):
        try:
            url = make_url(where)
        except (ArgumentError, ValueError) as error:
            raise CheckFailed(f"the registration is damaged: {error}") from error
        if (url.host, url.port, url.username) == (own.url.host, own.url.port, own.url.username):
            # The server that this ledger is on lets its user in the same way. Others: PGPASSWORD, ~/.pgpass.
            url = url.set(password=own.url.password)
            url = url.update_query_dict({k: v for k, v in own.url.query.items() if k in _SECRETS})
    else:
        file = Path(where)
        if not file.is_absolute():
            raise CheckFailed("the registration is damaged: a relative path")
        if not file.is_file():
            raise EnvironmentFailure(f"there is no {file}")
        url = URL.create("sqlite", database=str(file.resolve()))
    database = Database(url)
    try:
        with database.read() as connection:
            schema = connection.execute(select(Meta.value).where(Meta.key == "schema")).scalar_one_or_none()
            schema_number(schema, database.name)
            if _root(connection) != record.get("root", _root(connection)):
                raise EnvironmentFailure("another ledger lies there now")
    except BaseException:
        database.close()
        raise
    return database


def _same(a: Database, b: Database) -> bool:
    if a.file is not None and b.file is not None:
        return a.file.exists() and b.file.exists() and os.path.samefile(a.file, b.file)
    return a.file is None and b.file is None and _place(a) == _place(b)


def _place(database: Database) -> str:
    file = database.file
    return database.url._replace(password=None).render_as_string() if file is None else str(file.resolve())


def forget(database: Database, store: ObjectStore, place: str, *, dry_run: bool = False) -> list[str]:
    """Unregister a ledger that is gone for good; what only it needed is then unused.

    Args:
        database: The database of the ledger that asks.
        store: The store.
        place: Its directory, its database's file or URL, or the name of the registration's file.
        dry_run: Only look.

    Returns:
        The registrations that were, or would be, removed.

    Raises:
        InputError: no such ledger is registered, or it is there and can be opened.
    """
    found = registrations(store)
    wanted = set(_spellings(place))
    spelt = {n: {n, f"{LEDGERS}/{n}", *([record["database"]] if record else [])} for n, record in found.items()}
    named = [name for name, spellings in spelt.items() if spellings & wanted]
    own = _name(_record(database, store))
    gone = []
    for name in named:
        try:
            if name == own:
                raise InputError(f"{without_password(place)} is the ledger that asks; it uses the store")
            _open(found[name], database).close()
        except InputError:
            raise
        except SeqeditError:
            gone.append(name)
    if not gone:
        shown = without_password(place)
        if named:
            raise InputError(f"the ledger {shown} is there and uses the store {store.url}: it cannot be forgotten")
        known = [_shown(record) if record else f"{LEDGERS}/{name}" for name, record in found.items()]
        raise InputError(
            f"no ledger {shown} is registered with {store.url} (there are: {', '.join(known) or 'none'})"
            f"{did_you_mean(shown, known)}"
        )
    if not dry_run:
        for name in gone:
            store.remove(f"{LEDGERS}/{name}")
    return gone


def _spellings(place: str) -> Iterator[str]:
    yield place
    if is_url(place):
        try:
            yield make_url(place)._replace(password=None).difference_update_query(_SECRETS).render_as_string()
        except ArgumentError:
            return
    else:
        yield str(Path(place).resolve())
        yield str(Path(place, "ledger.db").resolve())
