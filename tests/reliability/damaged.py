"""Altering ledgers, and reading a database behind their back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ledger import Ledger


def object_of(ledger: Ledger, place: Path, rev: str) -> Path:
    """Directory of an entry's adapter."""
    digest = ledger.entry(rev).adapter
    assert digest is not None
    return place / "objects" / digest[:2] / digest


def flipped(data: bytes, position: int) -> bytes:
    """Bytes of which one bit is another."""
    copy = bytearray(data)
    copy[position] ^= 1 << (position % 8)
    return bytes(copy)


def tables_of(file: Path) -> list[str]:
    """Names of the tables of an SQLite file."""
    connection = sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)
    try:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in found]
    finally:
        connection.close()


def dump(file: Path, tables: Sequence[str]) -> dict[str, list[str]]:
    """All rows of some tables of an SQLite file as text; nothing is written."""
    connection = sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)
    connection.text_factory = bytes
    try:
        return {table: sorted(map(repr, connection.execute(f'SELECT * FROM "{table}"'))) for table in tables}
    finally:
        connection.close()
