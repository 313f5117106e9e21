"""What a ledger needs of a PostgreSQL server: its driver, one writer at a time, durable commits."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL

from seqedit.errors import InputError

DRIVER = "psycopg"
ADVICE = 'PostgreSQL needs the driver psycopg; install it with: pip install "seqedit[postgresql]"'

# current_schema(), because one database may hold several ledgers in schemas of their own.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('seqedit ledger ' || coalesce(current_schema(), ''), 0))"
_DURABLE = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"


def is_postgresql(url: URL) -> bool:
    """Whether a URL is one of a PostgreSQL server (``postgres://`` is what some providers write)."""
    return url.get_backend_name() in ("postgresql", "postgres")


def postgresql_engine(url: URL) -> Engine:
    """Engine with the driver the project is tested with, unless the URL names another.

    Raises:
        InputError: the driver is not installed; the message says how to install it.
    """
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername=f"postgresql+{DRIVER}")
    try:
        # A session of edits may compute for hours between two transactions, and servers drop idle connections.
        return create_engine(url, pool_pre_ping=True)
    except ImportError as error:
        raise InputError(ADVICE if DRIVER in url.drivername else f"the database's driver: {error}") from error


def begin_read(connection: Connection) -> Connection:
    """Make the connection's next transaction see one state of the database throughout."""
    return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def begin_write(connection: Connection) -> Connection:
    """Make the connection's next transaction, once it is locked, see what every earlier writer committed."""
    # At a higher level its snapshot would be taken before the lock is granted, hence without those commits.
    return connection.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False)


def lock(connection: Connection, seconds: int) -> None:
    """Make this transaction the ledger's only writer until it ends, as in SQLite.

    With one writer at a time there is neither deadlock nor serialisation failure, and whatever holds on SQLite holds
    here. The lock belongs to the transaction: a killed client loses it with its connection.

    Args:
        connection: A connection within a transaction begun by `begin_write`.
        seconds: How long to wait for other writers.
    """
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")
    connection.exec_driver_sql(_LOCK)
    connection.exec_driver_sql(_DURABLE)
