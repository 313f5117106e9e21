"""JSON and JSONL files as rows, each with the place it came from; whatever is wrong is named by that place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError, RequestError
from seqedit.facts.checks import short

Row = tuple[str, Any]
"""Where a row stands (file, line, record; counted from 1), and its value."""

_SPACE = re.compile(r"[ \t\r\n]*")


def read_rows(path: Path) -> list[Row]:
    """All rows of a JSON list or of a JSONL file, told apart by the first character.

    A byte order mark, CRLF line ends and empty lines are read over.

    Raises:
        InputError: not UTF-8, NUL bytes, not JSON, cut off, nested too deeply, or one object over several lines.
        RequestError: an object has a key twice.
        EnvironmentFailure: the file cannot be read.
    """
    text = _text(path)
    start = _skip(text, 0)
    if text.startswith("[", start):
        return _list(text, start + 1, str(path))
    return _lines(text, str(path))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"{path}: {error.strerror}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        position = max(data.find(b"\0"), 0)
        line = data.count(b"\n", 0, position) + 1
        raise InputError(f"{path}, line {line}: NUL bytes (byte {position}): UTF-16 or no text; convert it to UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: not UTF-8 at byte {error.start} (line {line}); convert it, e.g. with iconv -t utf-8"
        ) from None


def _list(text: str, position: int, source: str) -> list[Row]:
    """Items of a JSON list one by one, so that a syntax error can name its record."""
    rows: list[Row] = []
    position = _skip(text, position)
    if not text.startswith("]", position):
        while True:
            where = f"{source}, record {len(rows) + 1}"
            if rows and text.startswith("]", position):
                raise InputError(f"{where}: not valid JSON (a comma after the last record)")
            value, position = _value(text, position, where)
            rows.append((where, value))
            position = _skip(text, position)
            if text.startswith("]", position):
                break
            if not text.startswith(",", position):
                raise _syntax(json.JSONDecodeError("Expecting ',' or ']'", text, position), where)
            position = _skip(text, position + 1)
    after = _skip(text, position + 1)
    if after < len(text):
        raise _syntax(json.JSONDecodeError("Extra data after the list", text, after), source)
    return rows


def _lines(text: str, source: str) -> list[Row]:
    rows: list[Row] = []
    # Not splitlines: it also splits at U+2028 and its like, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if not line:
            continue
        where = f"{source}, line {number}"
        try:
            value, end = _value(line, 0, where)
            if end < len(line):
                raise _syntax(json.JSONDecodeError("Extra data", line, end), where)
        except InputError:
            if not rows and line.startswith("{"):
                _refuse_one_object(text, source)
            raise
        rows.append((f"{where}, record {len(rows) + 1}", value))
    return rows


def _refuse_one_object(text: str, source: str) -> None:
    """A pretty-printed object fails as JSONL in its first line; say what it is instead."""
    try:
        _, end = _value(text, _skip(text, 0), source)
    except InputError:
        return
    if _skip(text, end) == len(text):
        raise InputError(
            f"{source}, line 1: one JSON object over several lines; write a list of records, or one record per line"
        )


def _value(text: str, position: int, where: str) -> tuple[Any, int]:
    """The JSON value at a position and where it ends."""
    try:
        return _DECODER.raw_decode(text, position)
    except RecursionError:
        raise InputError(f"{where}: nested too deeply to be a record") from None
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None
    except json.JSONDecodeError as error:
        raise _syntax(error, where) from None
    except ValueError:  # more digits than Python turns into an integer
        raise InputError(f"{where}: not valid JSON (a number has too many digits)") from None


def _syntax(error: json.JSONDecodeError, where: str) -> InputError:
    cut = error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip())
    hint = "; it ends in the middle, was it cut off?" if cut else ""
    line = f"line {error.lineno}, " if "\n" in error.doc else ""
    return InputError(f"{where}: not valid JSON ({error.msg} at {line}column {error.colno}){hint}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; JSON's parsers keep the last of two equal keys, so that half of a record would be lost unseen."""
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RequestError(f"key {short(twice)} occurs twice in one object")
    return result


def _skip(text: str, position: int) -> int:
    """The next position that is not white space."""
    match = _SPACE.match(text, position)
    assert match is not None
    return match.end()


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
