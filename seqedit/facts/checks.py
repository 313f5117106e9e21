"""What every text of a record must be, checked where it enters; and values made short enough for a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqedit.errors import RequestError

MAX_CHARACTERS = 100_000
"""Longest subject, prompt or target that is read; a longer one is a broken file, not a fact."""


def short(value: Any, width: int = 80) -> str:
    """A value as a message quotes it: its repr, cut off before it is made (a value may be 50 MB)."""
    if isinstance(value, str):
        return repr(value) if len(value) <= width else f"{value[:width]!r}... ({len(value):,} characters)"
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        # Python refuses to print integers of more than some thousand digits.
        return repr(value) if abs(value) < 10**width else "an integer of many digits"
    return type(value).__name__


def label(name: Any) -> str:
    """A field's name from a file as a message shows it: short, and printable whatever it holds."""
    return str(name)[:40].encode("utf-8", "backslashreplace").decode()


def check_text(value: Any, name: str, *, limit: int | None = MAX_CHARACTERS) -> str:
    """A string of bearable length.

    Args:
        value: What was read.
        name: Field, for the message.
        limit: Most characters; None for no limit.

    Raises:
        RequestError: not a string, or too long. Names the field.
    """
    if not isinstance(value, str):
        raise RequestError(f"field '{name}' must be a string, got {type(value).__name__}")
    if limit is not None and len(value) > limit:
        raise RequestError(f"field '{name}' has {len(value):,} characters, at most {limit:,} are read")
    return value


def check_storable(value: Any, name: str = "record") -> None:
    """Refuse texts that only fail later, after the work: no tokenizer reads them or no ledger stores them.

    Args:
        value: JSON types, to any depth.
        name: Field, for the message.

    Raises:
        RequestError: a NUL (PostgreSQL cannot hold it), or half a surrogate pair (it has no UTF-8). Names the field.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_storable(item, key)
    elif isinstance(value, list):
        for item in value:
            check_storable(item, name)
    elif isinstance(value, str):
        if "\0" in value:
            raise RequestError(f"field '{name}' holds a NUL at character {value.index(chr(0))}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"field '{name}' holds half of a surrogate pair (U+{ord(value[error.start]):04X}) at character "
                f"{error.start}; the text was cut or escaped wrongly"
            ) from None
