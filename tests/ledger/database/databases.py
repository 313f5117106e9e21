"""Places of ledgers for the tests: a directory with an SQLite file, or a schema of a PostgreSQL server.

Both are used in the same way: `Ledger.open` takes them, `create` makes a ledger there, ``place / "objects"`` is the
directory of its object store, and `alter` changes the database behind the ledger's back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL

from ledger import Ledger
from seqedit.adapters.adapter import BaseModel
from tests.ledger.helpers import MODEL

DATABASES = ("sqlite", "postgresql")
_numbers = itertools.count()


class ServerPlace(str):
    """URL of a ledger on a server, with the directory its objects are in."""

    directory: Path

    def __new__(cls, url: URL, directory: Path) -> ServerPlace:
        place = super().__new__(cls, url.render_as_string(hide_password=False))
        place.directory = directory
        return place

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def rglob(self, pattern: str) -> Iterator[Path]:
        return self.directory.rglob(pattern)


@contextmanager
def schema(admin: Engine, directory: Path) -> Iterator[ServerPlace]:
    """A place in a schema of its own, which is dropped at the end."""
    name = f"test_{next(_numbers)}"
    with admin.connect() as connection:
        # Of an existing server: one that an interrupted run has left.
        connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
        connection.execute(text(f"CREATE SCHEMA {name}"))
    url = admin.url.set(drivername="postgresql").update_query_dict({"options": f"-csearch_path={name}"})
    try:
        yield ServerPlace(url, directory)
    finally:
        with admin.connect() as connection:
            connection.execute(text("SET lock_timeout = '10s'"))
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


def admin_engine(url: URL) -> Engine:
    """Engine that makes schemas."""
    return create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")


def create(place: Path | ServerPlace, base_model: BaseModel = MODEL, **options: Any) -> Ledger:
    """`Ledger.create` at a place of either kind."""
    if isinstance(place, ServerPlace):
        options.setdefault("objects", str(place / "objects"))
    return Ledger.create(place, base_model, **options)


def alter(ledger: Ledger, statement: str, **values: object) -> None:
    """Alter the database behind the ledger's back, foreign keys unchecked."""
    server = ledger.database.file is None
    with ledger.database.engine.connect() as connection:
        off, on = (
            ("SET session_replication_role = replica", "SET session_replication_role = DEFAULT")
            if server
            else ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON")
        )
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.cursor().execute(off)  # on SQLite this works outside a transaction only
        if server:
            raw.commit()
        try:
            with connection.begin():
                connection.execute(text(statement), values)
        finally:
            raw.cursor().execute(on)
            if server:
                raw.commit()
