"""Small files that a user names, as text or JSON: whatever is wrong with one is an error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seqedit.errors import InputError

MAX_DEPTH = 200
"""Levels of lists and objects within each other; deeper ones are no settings, and Python's recursion ends at 1,000."""


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: it is missing, not a file, may not be read, or is no UTF-8 text.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if b"\0" in data:
        raise InputError(f"{path}: NUL bytes (byte {data.index(0)}): UTF-16 or no text; convert it to UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; convert it, e.g. with iconv -t utf-8") from error


def read_json(path: str | Path) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: it cannot be read as text, or is no JSON that `parse_json` takes.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, where: object) -> Any:
    """The value of a JSON text.

    Args:
        text: The text.
        where: What it is called in messages: its file, or its file and line.

    Raises:
        InputError: no JSON, a number with too many digits, nested too deeply, or a text that no file can hold.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise InputError(f"{where}: not readable as JSON (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"{where}: not readable as JSON ({_first(error)})") from error
    check_value(value, where)
    return value


def check_value(value: Any, where: object, depth: int = MAX_DEPTH) -> None:
    """Refuse what could be read and neither be digested nor be written again.

    Args:
        value: Of JSON, or of YAML, where a list may hold itself.
        where: What it is called in messages.
        depth: How many levels it may have.

    Raises:
        InputError: half a surrogate pair, or too many levels.
    """
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{where}: holds half a surrogate pair (\\u{ord(value[error.start]):04x})") from error
    elif isinstance(value, dict | list):
        if not depth:
            raise InputError(f"{where}: nested more than {MAX_DEPTH} levels deep")
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        for part in parts:
            check_value(part, where, depth - 1)


def _first(error: Exception) -> str:
    return "a number has too many digits" if "digits" in str(error) else " ".join(str(error).split())[:200]
