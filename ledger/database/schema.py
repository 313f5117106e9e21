"""Tables of the ledger's database. Any SQLAlchemy URL; nothing here is SQLite's alone.

`Entries.content` is the truth, and its SHA-256 is the entry's id. The other columns of entries, parents, targets and
requests repeat it for queries; verification compares them. Signatures are about entries and no part of them.

Whoever changes a table raises `SCHEMA_VERSION` and adds a script to ``ledger/migrations/versions``; the tests compare
what migrated ledgers have with what is declared here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ledger.database.fact_keys import FOLDED_CHARACTERS

SCHEMA_VERSION = 4

_Digest = String(64)
_Name = String(255)
_Key = String(64)
_Signature = String(128)
# Compared by code point, so that the texts with one beginning stand together in the index.
_Folded = String(FOLDED_CHARACTERS).with_variant(String(FOLDED_CHARACTERS, collation="C"), "postgresql")


class Base(DeclarativeBase):
    """Declarative base of all tables."""


class Meta(Base):
    """What the ledger is: format, base model, where the objects are."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(_Name, primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Entries(Base):
    """One row per entry; never updated, never deleted while reachable."""

    __tablename__ = "entries"
    id: Mapped[str] = mapped_column(_Digest, primary_key=True)
    generation: Mapped[int] = mapped_column(Integer, index=True)
    operation: Mapped[str] = mapped_column(_Name)
    adapter: Mapped[str | None] = mapped_column(_Digest, index=True)
    base_fingerprint: Mapped[str] = mapped_column(_Name)
    method: Mapped[dict[str, Any]] = mapped_column(JSON)
    n_requests: Mapped[int] = mapped_column(Integer)
    author: Mapped[str] = mapped_column(Text)
    time: Mapped[str] = mapped_column(String(20))
    message: Mapped[str] = mapped_column(Text)
    content: Mapped[str] = mapped_column(Text)


class EntryParents(Base):
    """Parents of an entry; position 0 is the history it extends."""

    __tablename__ = "entry_parents"
    entry: Mapped[str] = mapped_column(ForeignKey("entries.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    parent: Mapped[str] = mapped_column(ForeignKey("entries.id"), index=True)


class EntryTargets(Base):
    """Earlier entries that an entry takes out of force: one of a revert or swap, several of a merge."""

    __tablename__ = "entry_targets"
    entry: Mapped[str] = mapped_column(ForeignKey("entries.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    target: Mapped[str] = mapped_column(ForeignKey("entries.id"), index=True)


class Requests(Base):
    """The facts of an entry, one row each.

    ``subject`` and ``relation`` are as the request has them; where it names no relation its prompt stands
    there. They are looked up by the last three columns, which are made by `ledger.database.fact_keys`.
    """

    __tablename__ = "requests"
    entry: Mapped[str] = mapped_column(ForeignKey("entries.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    subject: Mapped[str] = mapped_column(Text)
    relation: Mapped[str] = mapped_column(Text)
    prompt: Mapped[str] = mapped_column(Text)
    target_new: Mapped[str] = mapped_column(Text)
    target_true: Mapped[str | None] = mapped_column(Text)
    case_id: Mapped[str | None] = mapped_column(Text)
    date: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    subject_digest: Mapped[str] = mapped_column(_Digest, index=True)
    fact_digest: Mapped[str] = mapped_column(_Digest, index=True)
    subject_folded: Mapped[str] = mapped_column(_Folded, index=True)


class Objects(Base):
    """Files of an object; together its manifest."""

    __tablename__ = "objects"
    digest: Mapped[str] = mapped_column(_Digest, primary_key=True)
    file: Mapped[str] = mapped_column(_Name, primary_key=True)
    sha256: Mapped[str] = mapped_column(_Digest)
    size: Mapped[int] = mapped_column(BigInteger)


class Refs(Base):
    """Branches (``entry`` is set) and HEAD (``symbolic`` names a branch)."""

    __tablename__ = "refs"
    name: Mapped[str] = mapped_column(_Name, primary_key=True)
    entry: Mapped[str | None] = mapped_column(ForeignKey("entries.id"))
    symbolic: Mapped[str | None] = mapped_column(_Name)


class Reflog(Base):
    """Every move of a branch, oldest first."""

    __tablename__ = "reflog"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    ref: Mapped[str] = mapped_column(_Name, index=True)
    old: Mapped[str | None] = mapped_column(_Digest)
    new: Mapped[str | None] = mapped_column(_Digest)
    time: Mapped[str] = mapped_column(String(20))
    message: Mapped[str] = mapped_column(Text)


class Signatures(Base):
    """Signatures of entries (ed25519); they may be added later and are no part of the entry.

    ``key`` is the public key and ``signature`` the signature, both in lower-case hex.
    """

    __tablename__ = "signatures"
    entry: Mapped[str] = mapped_column(ForeignKey("entries.id"), primary_key=True)
    key: Mapped[str] = mapped_column(_Key, primary_key=True)
    signature: Mapped[str] = mapped_column(_Signature)
    time: Mapped[str] = mapped_column(String(20))


class Scores(Base):
    """Measurements of the state that an entry made; they may be added later and are no part of the entry."""

    __tablename__ = "scores"
    entry: Mapped[str] = mapped_column(ForeignKey("entries.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(_Name, primary_key=True)
    key: Mapped[str] = mapped_column(_Name, primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
