"""Requests are looked up by digests, because PostgreSQL's indices take no long texts; entries can be signed."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"
branch_labels = None
depends_on = None

_DIGEST = sa.String(64)
_FOLDED = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
_NEW = {"subject_digest": _DIGEST, "fact_digest": _DIGEST, "subject_folded": _FOLDED}
_CHUNK = 2000


def upgrade() -> None:
    """Replace the index of texts, fill the new columns, and make the table of signatures."""
    with op.batch_alter_table("requests", recreate="never") as batch:
        batch.drop_index("ix_requests_fact")
        for name, kind in _NEW.items():
            batch.add_column(sa.Column(name, kind, nullable=True))
    _fill(op.get_bind())
    with op.batch_alter_table("requests") as batch:
        for name, kind in _NEW.items():
            batch.alter_column(name, existing_type=kind, nullable=False)
    for name in _NEW:
        op.create_index(f"ix_requests_{name}", "requests", [name])
    op.create_table(
        "signatures",
        sa.Column("entry", _DIGEST, sa.ForeignKey("entries.id"), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("time", sa.String(20), nullable=False),
    )


_REQUESTS = sa.table(
    "requests",
    *(sa.column(name, sa.String()) for name in ("entry", "subject", "relation", *_NEW)),
    sa.column("position", sa.Integer()),
)


def _fill(connection: sa.Connection) -> None:
    r = _REQUESTS.c
    update = (
        sa.update(_REQUESTS)
        .where(r.entry == sa.bindparam("of_entry"), r.position == sa.bindparam("at_position"))
        .values({name: sa.bindparam(f"new_{name}") for name in _NEW})
    )
    for rows in _chunks(connection):
        connection.execute(
            update,
            [
                {
                    "of_entry": row.entry,
                    "at_position": row.position,
                    "new_subject_digest": hashlib.sha256(row.subject.encode()).hexdigest(),
                    "new_fact_digest": _fact_digest(row.subject, row.relation),
                    "new_subject_folded": _folded(row.subject),
                }
                for row in rows
            ],
        )


def _chunks(connection: sa.Connection) -> Iterator[list[Any]]:
    """All requests, by ranges of the primary key: a million of them need not be in memory at once."""
    r = _REQUESTS.c
    query = sa.select(r.entry, r.position, r.subject, r.relation).order_by(r.entry, r.position).limit(_CHUNK)
    rows = list(connection.execute(query))
    while rows:
        yield rows
        last = rows[-1]
        after = sa.or_(r.entry > last.entry, sa.and_(r.entry == last.entry, r.position > last.position))
        rows = list(connection.execute(query.where(after)))


# As they were when this schema was released; `ledger.database.fact_keys` may not differ, and a test compares them.
def _fact_digest(subject: str, relation: str) -> str:
    text = json.dumps([subject, relation], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _folded(subject: str) -> str:
    known = unicodedata.ucd_3_2_0.category
    return "".join(c if known(c) == "Cn" else c.casefold() for c in subject[:64])[:64]
