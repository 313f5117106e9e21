"""Facts are looked up by their canonical spelling, so that the NFC and NFD of a subject are one fact."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"
branch_labels = None
depends_on = None

_CHUNK = 2000
_KEYS = ("subject_digest", "fact_digest")
_REQUESTS = sa.table(
    "requests",
    *(sa.column(name, sa.String()) for name in ("entry", "subject", "relation", *_KEYS)),
    sa.column("position", sa.Integer()),
)


def upgrade() -> None:
    """Digest anew what is not written canonically; all other rows stay as they are."""
    connection = op.get_bind()
    r = _REQUESTS.c
    update = (
        sa.update(_REQUESTS)
        .where(r.entry == sa.bindparam("of_entry"), r.position == sa.bindparam("at_position"))
        .values({name: sa.bindparam(f"new_{name}") for name in _KEYS})
    )
    for rows in _chunks(connection):
        changed = [
            {
                "of_entry": row.entry,
                "at_position": row.position,
                "new_subject_digest": _subject_digest(row.subject),
                "new_fact_digest": _fact_digest(row.subject, row.relation),
            }
            for row in rows
            if _canonical(row.subject) != row.subject or _canonical(row.relation) != row.relation
        ]
        if changed:
            connection.execute(update, changed)


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
_SPACE = re.compile(r"[\t\n\v\f\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def _canonical(text: str) -> str:
    spaced = _SPACE.sub(" ", text).strip(" ")
    return spaced if spaced.isascii() else unicodedata.ucd_3_2_0.normalize("NFC", spaced)


def _subject_digest(subject: str) -> str:
    return hashlib.sha256(_canonical(subject).encode()).hexdigest()


def _fact_digest(subject: str, relation: str) -> str:
    fact = [_canonical(subject), _canonical(relation)]
    text = json.dumps(fact, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
