"""Bringing the database of an older ledger to the current schema, by alembic's operations.

The schema's number stands in the ledger's ``meta`` table and is changed in the transaction that changes the tables,
so alembic's own version table is not used: killed at any point, a ledger has the old schema or the new one.
"""

from __future__ import annotations

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, update

from ledger.database.schema import SCHEMA_VERSION, Meta


def upgrade(connection: Connection, schema: int | None, to: int = SCHEMA_VERSION) -> None:
    """Run the scripts that lead from one schema to another.

    Args:
        connection: A connection within a write transaction; the caller commits it.
        schema: The number of the present schema; None where there are no tables yet.
        to: The number of the schema to be reached.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent))
    base = "base" if schema is None else str(schema)
    steps = list(scripts.iterate_revisions(str(to), base))[::-1]
    with Operations.context(MigrationContext.configure(connection)):
        for step in steps:
            step.module.upgrade()
    if schema is not None:
        connection.execute(update(Meta).where(Meta.key == "schema").values(value=str(to)))
