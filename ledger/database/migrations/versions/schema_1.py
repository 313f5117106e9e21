"""The first schema: entries, objects, refs, scores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None

_DIGEST = sa.String(64)
_NAME = sa.String(255)


def upgrade() -> None:
    """Make the tables of schema 1."""
    op.create_table(
        "meta",
        sa.Column("key", _NAME, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("id", _DIGEST, primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False, index=True),
        sa.Column("operation", _NAME, nullable=False),
        sa.Column("adapter", _DIGEST, index=True),
        sa.Column("base_fingerprint", _NAME, nullable=False),
        sa.Column("method", sa.JSON, nullable=False),
        sa.Column("n_requests", sa.Integer, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("time", sa.String(20), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    for table, other in (("entry_parents", "parent"), ("entry_targets", "target")):
        op.create_table(
            table,
            sa.Column("entry", _DIGEST, sa.ForeignKey("entries.id"), primary_key=True),
            sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column(other, _DIGEST, sa.ForeignKey("entries.id"), nullable=False, index=True),
        )
    op.create_table(
        "requests",
        sa.Column("entry", _DIGEST, sa.ForeignKey("entries.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("relation", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("target_new", sa.Text, nullable=False),
        sa.Column("target_true", sa.Text),
        sa.Column("case_id", sa.Text),
        sa.Index("ix_requests_fact", "subject", "relation"),
    )
    op.create_table(
        "objects",
        sa.Column("digest", _DIGEST, primary_key=True),
        sa.Column("file", _NAME, primary_key=True),
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "refs",
        sa.Column("name", _NAME, primary_key=True),
        sa.Column("entry", _DIGEST, sa.ForeignKey("entries.id")),
        sa.Column("symbolic", _NAME),
    )
    op.create_table(
        "reflog",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("ref", _NAME, nullable=False, index=True),
        sa.Column("old", _DIGEST),
        sa.Column("new", _DIGEST),
        sa.Column("time", sa.String(20), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_table(
        "scores",
        sa.Column("entry", _DIGEST, sa.ForeignKey("entries.id"), primary_key=True),
        sa.Column("kind", _NAME, primary_key=True),
        sa.Column("key", _NAME, primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
    )
