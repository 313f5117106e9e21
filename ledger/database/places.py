"""Where a ledger lives: a directory with ``ledger.db`` and ``objects/``, or a database URL and an object store URL."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ledger.database.database import Database
from ledger.database.schema import SCHEMA_VERSION, Meta
from ledger.database.upgrade import at_current_schema, schema_number
from ledger.errors import failures
from ledger.objects.local import open_store
from ledger.objects.objects import ObjectStore
from ledger.url_secrets import is_url, without_password, without_secrets
from seqedit.adapters.base import BaseModel
from seqedit.errors import CheckFailed, InputError

DATABASE = "ledger.db"
OBJECTS = "objects"


@dataclass(frozen=True)
class Opened:
    """A ledger's parts."""

    database: Database
    store: ObjectStore
    base_model: BaseModel


def database_to_create(place: str | Path, objects: str | None) -> tuple[Database, str]:
    """Database of a ledger that is to be made, and the object store URL to record in it.

    Raises:
        InputError: a database URL without an object store.
        EnvironmentFailure: the directory cannot be made.
    """
    url = objects_url(place, objects)
    if is_url(str(place)):
        return Database(str(place), create=True), url
    directory = Path(place)
    with failures(str(place)):
        directory.mkdir(parents=True, exist_ok=True)
        for path in (directory, directory.absolute().parent):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    return Database(_sqlite(directory), create=True), url


def objects_url(place: str | Path, objects: str | None) -> str:
    """What a new ledger records as its object store.

    Raises:
        InputError: a database URL without an object store.
    """
    if objects is not None:
        return _absolute(objects)
    if is_url(str(place)):
        raise InputError("a ledger at a database URL needs objects=, the directory or URL of its object store")
    return OBJECTS  # relative, so that the directory may be moved as a whole


def has_ledger(place: str | Path) -> bool:
    """Whether a place holds a ledger. One whose creation was killed does not: `Ledger.create` takes it up.

    Raises:
        InputError: a database URL that is none.
        CheckFailed: what lies there is a damaged database.
        EnvironmentFailure: the database cannot be reached.
    """
    database = database_of(place)
    if database is None:
        return False
    try:
        with database.read() as connection:
            # A creation is one transaction, and the file is there before it is committed.
            return read_meta(connection) is not None
    finally:
        database.close()


def database_of(place: str | Path) -> Database | None:
    """The database of a place, where there is one; whether it holds a ledger is not asked. Close it.

    Raises:
        InputError: a database URL that is none.
    """
    if is_url(str(place)):
        database_url = str(place)
        try:
            url = make_url(database_url)
        except (ArgumentError, ValueError) as error:
            said = without_secrets(f"database URL '{without_password(place)}': {error}", place)
            raise InputError(said) from None  # its cause may quote the URL
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            return None
        return Database(database_url)
    return Database(_sqlite(Path(place))) if (Path(place) / DATABASE).is_file() else None


def open_place(place: str | Path, objects: str | None) -> Opened:
    """The parts of an existing ledger; one of an older schema is upgraded, and nothing else is changed.

    Raises:
        CheckFailed: the database is damaged.
        InputError: there is none (the message says how to make one), or a newer seqedit has made it.
        EnvironmentFailure: disk or database failed.
    """
    shown = without_password(place)
    advice = (
        f"no ledger at {shown}; name another with --ledger or SEQEDIT_LEDGER, or make one: "
        f"`seqedit init --model MODEL --ledger {shown}` (in Python: Ledger.create)"
    )
    directory = None if is_url(str(place)) else Path(place)
    if directory is not None and not (directory / DATABASE).is_file():
        raise InputError(advice)
    database = Database(str(place) if directory is None else _sqlite(directory))
    try:
        with database.read() as connection:
            meta = read_meta(connection)
        if meta is None:
            raise InputError(advice)
        database = at_current_schema(database, schema_number(meta.get("schema"), database.name))
        store = store_of(place, meta["objects"] if objects is None else _absolute(objects))
        return Opened(database, store, BaseModel(meta["base_model"], meta["base_fingerprint"]))
    except KeyError as error:
        database.close()
        raise CheckFailed(f"the database {database.name} is damaged: its meta table lacks {error}") from error
    except BaseException:
        database.close()
        raise


def store_of(place: str | Path, url: str) -> ObjectStore:
    """The object store of a ledger whose database records it as ``url``."""
    if not is_url(str(place)) and not is_url(url):
        url = str(Path(place) / url)  # an absolute path stays what it is
    return open_store(url)


def write_meta(connection: Connection, base_model: BaseModel, *, objects: str, created: str) -> None:
    """Record what the ledger is."""
    values = {
        "schema": str(SCHEMA_VERSION),
        "base_model": base_model.name,
        "base_fingerprint": base_model.fingerprint,
        "created": created,
        "objects": objects,
    }
    connection.execute(insert(Meta), [{"key": key, "value": value} for key, value in values.items()])


def read_meta(connection: Connection) -> dict[str, str] | None:
    """What the ledger is, or None where the database holds no ledger."""
    if not inspect(connection).has_table(Meta.__tablename__):
        return None
    return {row.key: row.value for row in connection.execute(select(Meta.key, Meta.value))} or None


def _sqlite(directory: Path) -> URL:
    return URL.create("sqlite", database=str(directory / DATABASE))


def _absolute(objects: str) -> str:
    return objects if is_url(objects) else str(Path(objects).absolute())
