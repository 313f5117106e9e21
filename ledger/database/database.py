"""Connections and transactions: an SQLite file by default, a PostgreSQL server by URL."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from ledger.database import postgresql
from ledger.errors import failures
from ledger.url_secrets import without_password, without_secrets
from seqedit.errors import EnvironmentFailure, InputError

BUSY_SECONDS = 60


class Database:
    """Engine of one ledger, with read and write transactions.

    Args:
        url: SQLAlchemy URL.
        create: Whether an SQLite file may be made; else a missing one is an error.
        read_only: Why nothing may be written, where that is so; the message of `write`.

    Raises:
        InputError: the URL is malformed, of an unknown kind of database, or its driver is not installed.
    """

    def __init__(self, url: str | URL, *, create: bool = False, read_only: str | None = None) -> None:
        self._read_only = read_only
        self._at_close = ExitStack()
        try:
            self.url = make_url(url)
            self.engine = self._engine(create)
        except InputError as error:
            raise InputError(without_secrets(str(error), url)) from None
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError, TypeError) as error:
            # Without the cause: it may quote the URL, and a traceback would show it.
            raise InputError(without_secrets(f"database URL '{without_password(url)}': {error}", url)) from None
        self.name = without_password(self.url)

    def _engine(self, create: bool) -> Engine:
        if postgresql.is_postgresql(self.url):
            return postgresql.postgresql_engine(self.url)
        file = self.file
        if file is None:
            self.url.get_dialect()  # an unknown name is the better message
            raise InputError(
                f"a ledger's database is an SQLite file or a PostgreSQL server, not '{self.url.get_backend_name()}'"
            )
        if not create and not file.is_file():
            raise InputError(f"{file} does not exist")
        query = {"uri": "true", "mode": "rwc" if create else "rw", "timeout": str(BUSY_SECONDS)}
        if not create and not self.writable:
            query["mode"] = "ro"
            # WAL needs a file beside the database even to read. Where none can be made nobody writes either, and
            # without an unfinished log the file alone is the whole truth.
            wal = Path(f"{file}-wal")
            if not wal.exists() or wal.stat().st_size == 0:
                query["immutable"] = "1"
        engine = create_engine(URL.create("sqlite", database=f"file:{quote(str(file.absolute()))}", query=query))
        _prepare_sqlite(engine, create)
        return engine

    @property
    def file(self) -> Path | None:
        """The SQLite file, or None for any other database."""
        if self.url.get_backend_name() != "sqlite":
            return None
        if not self.url.database or self.url.database == ":memory:" or self.url.database.startswith("file:"):
            raise InputError(
                f"'{without_password(self.url)}': a ledger needs a plain file; give sqlite:///path/to/ledger.db"
            )
        return Path(self.url.database)

    @property
    def writable(self) -> bool:
        """False for an SQLite file that must not be written, or that lies in a directory that cannot be."""
        return self._read_only is None and (self.file is None or os.access(self.file.parent, os.W_OK))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout."""
        with failures(self.name, self.url), self.engine.connect() as connection:
            if self.file is None:
                connection = postgresql.begin_read(connection)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits where its block ends and leaves no trace where it raises.

        The ledger has one writer at a time: from its first statement on, the transaction keeps others waiting.

        Raises:
            EnvironmentFailure: another writer was not done in `BUSY_SECONDS`, or the database cannot be written.
        """
        if self._read_only is not None:
            raise EnvironmentFailure(self._read_only)
        with failures(self.name, self.url), self.engine.connect() as connection:
            if self.file is None:
                connection = postgresql.begin_write(connection)
            with connection.execution_options(ledger_write=True).begin():
                if self.file is None:
                    postgresql.lock(connection, BUSY_SECONDS)
                yield connection

    def at_close(self, action: Callable[[], object]) -> None:
        """Do something after the connections have been closed."""
        self._at_close.callback(action)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self._at_close.close()


def _prepare_sqlite(engine: Engine, create: bool) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: object, _record: object) -> None:
        # The driver must not begin transactions on its own: it would begin them without the write lock.
        connection.isolation_level = None  # type: ignore[attr-defined]
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        cursor.execute("PRAGMA synchronous = FULL")
        if create:
            keep_write_ahead_log(cursor)
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer that started as a reader could be refused the lock half way; so it takes it at once.
        write = connection.get_execution_options().get("ledger_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def keep_write_ahead_log(cursor: Any, patience: float = BUSY_SECONDS) -> None:
    """Switch an SQLite file to a write-ahead log, a property of the file that is set once.

    Where another process is just doing the same, SQLite does not wait as it does everywhere else but says at once that
    the file is locked.

    Args:
        cursor: Of a connection to the file, outside of a transaction.
        patience: Seconds after which the file's being locked is an error.
    """
    end = time.monotonic() + patience
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
