"""Opening a ledger of an older schema: a backup of the file, then the migration, in one transaction."""

from __future__ import annotations

import contextlib
import filecmp
import logging
import os
import sqlite3
import tempfile
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.engine import URL

from ledger.database.database import Database
from ledger.database.schema import SCHEMA_VERSION, Meta
from ledger.errors import failures
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError

_log = logging.getLogger(__name__)


def schema_number(text: str | None, name: str) -> int:
    """The schema's number as the ledger states it.

    Raises:
        CheckFailed: it is none.
        InputError: a newer seqedit has made or upgraded the ledger.
    """
    if text is None or not text.isascii() or not text.isdigit() or int(text) < 1:
        raise CheckFailed(f"the database {name} is damaged: its meta table gives the schema as {text!r}")
    if int(text) > SCHEMA_VERSION:
        raise InputError(
            f"the ledger {name} has schema {int(text)}, and this version of seqedit knows schemas up to "
            f"{SCHEMA_VERSION}; install a newer seqedit"
        )
    return int(text)


def at_current_schema(database: Database, schema: int) -> Database:
    """A database with the current schema: the same one, upgraded, or an upgraded copy where it cannot be written.

    An SQLite file is first copied to ``<file>.schema<N>.bak`` beside it; no existing file is replaced. A server's
    database is not copied: that is what its own backups are for.

    Args:
        database: The ledger's database; closed where a copy takes its place.
        schema: Its schema.

    Raises:
        EnvironmentFailure: disk or database failed; the ledger is as it was.
    """
    if schema == SCHEMA_VERSION:
        return database
    file = database.file
    if file is not None and not (database.writable and os.access(file, os.W_OK)):
        return _upgraded_copy(database, file, schema)
    backup: Path | None = None
    with database.write() as connection:
        # With the write lock held: another process may have upgraded the ledger since.
        found = schema_number(_stated(connection), database.name)
        if found < SCHEMA_VERSION:
            if file is not None:
                backup = _backup(database, file, found)
            _upgrade(connection, found)
            _log.info(
                "upgraded %s from schema %d to %d%s",
                *(database.name, found, SCHEMA_VERSION, f"; the old one is {backup.name}" if backup else ""),
            )
    return database


def _stated(connection: Connection) -> str | None:
    return connection.execute(select(Meta.value).where(Meta.key == "schema")).scalar_one_or_none()


def _upgrade(connection: Connection, schema: int) -> None:
    from ledger.database.migrations import (
        upgrade,  # alembic is needed here only, and its import costs a tenth of a second
    )

    upgrade(connection, schema)


def _upgraded_copy(database: Database, file: Path, schema: int) -> Database:
    """A temporary copy of a file that cannot be written, upgraded, to be read; it goes when it is closed."""
    name = database.name
    with failures(name):
        scratch = tempfile.TemporaryDirectory(prefix="seqedit-ledger-")
        url = URL.create("sqlite", database=str(Path(scratch.name) / file.name))
        try:
            _copy(database, Path(scratch.name) / file.name)
            database.close()
            copy = Database(url)
            try:
                with copy.write() as connection:
                    _upgrade(connection, schema)
            finally:
                copy.close()
            reason = (
                f"{name} is read-only and has schema {schema}, so it is read through an upgraded copy; to write, open "
                "it first as a user who may write it"
            )
            opened = Database(url, read_only=reason)
        except BaseException:
            scratch.cleanup()
            raise
    opened.name = name
    opened.at_close(scratch.cleanup)
    return opened


def _backup(database: Database, file: Path, schema: int) -> Path:
    """A durable copy of the file as it was last committed; none that exists is replaced."""
    scratch = Path(f"{file}.schema{schema}.bak.tmp")
    with failures(str(scratch)):
        scratch.unlink(missing_ok=True)  # of a process that was killed here
        try:
            _copy(database, scratch)
            _sync(scratch)
            for number in range(1, 1000):
                target = Path(f"{file}.schema{schema}.bak" + (f".{number}" if number > 1 else ""))
                with contextlib.suppress(FileExistsError):
                    os.link(scratch, target)
                    break
                if filecmp.cmp(scratch, target, shallow=False):  # of an upgrade that was killed
                    break
            else:
                raise EnvironmentFailure(f"there are too many backups beside {file}; move them away")
            _sync(target)
            _sync(file.absolute().parent)
        finally:
            scratch.unlink(missing_ok=True)
    return target


def _copy(database: Database, target: Path) -> None:
    # Not a copy of the file: what was committed last may stand in the log beside it.
    source = database.engine.raw_connection()
    try:
        copy = sqlite3.connect(target)
        try:
            source.driver_connection.backup(copy)  # type: ignore[union-attr]
        finally:
            copy.close()
    except sqlite3.Error as error:
        raise EnvironmentFailure(f"{target}: the database could not be copied: {error}") from error
    finally:
        source.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
