"""Text of others as it may be shown: no character of it moves a cursor, ends a line, or turns writing around.

Messages, subjects, names and paths come from whoever made the record, the bundle or the file. What shows them (the
terminal in `seqedit.cli.terminal`, cards and tables in `seqedit.adapters.card`, the report) sends them through here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_CONTROL = "\x00-\x1f\x7f-\x9f"
_LINES = "\u2028\u2029"
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"
"""Characters that change the direction of the text around them (Unicode, UAX #9), and deprecated format characters."""
_OTHER = "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
"""Byte order marks, annotations, halves of surrogate pairs (which no stream can encode), invisible tags."""
_UNSAFE = re.compile(f"[{_CONTROL}{_LINES}{_DIRECTION}{_OTHER}]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$!&])")
_BLOCK = re.compile(r"^(\d*)([-+=.)])")


def one_line(text: str) -> str:
    r"""Text as part of one line: ``\x1b``, ``\n``, ``\u202e`` and the like stand for what a terminal would obey."""
    return _UNSAFE.sub(lambda match: _NAMED.get(match[0]) or _escape(match[0]), text)


def visible(text: str) -> str:
    """As `one_line`, but for line ends and tabs, where the page that shows the text has lines of its own making."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] in "\n\t" else _escape(match[0]), text)


def escape(text: str) -> str:
    """Text that reads in Markdown, also in a table or as a line of its own, as it was written."""
    escaped = _SPECIAL.sub(r"\\\1", one_line(" ".join(text.split())))
    return _BLOCK.sub(r"\1\\\2", escaped)


def plain(value: Any) -> str:
    """A value of JSON types as a reader would write it: no quotes and brackets of a programming language.

    Nothing is "none", truth is "yes" or "no", numbers have at most six significant digits (whole ones all), the parts
    of a list stand beside each other and those of a mapping behind their names.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_part(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_part(item) for item in value) or "none"
    return str(value)


def _part(value: Any) -> str:
    """A value inside of another; in parentheses where it has parts itself."""
    nested = isinstance(value, Mapping | list | tuple) and len(value) > 1
    return f"({plain(value)})" if nested else plain(value)


def json_text(value: Any, **how: Any) -> str:
    """A value as JSON that reads back as the same value, with every such character escaped as JSON escapes.

    Args:
        value: JSON types.
        how: Further arguments of `json.dumps`.
    """
    # They can only stand in strings; the line ends between the parts are this function's own.
    lines = json.dumps(value, ensure_ascii=False, **how).split("\n")
    return "\n".join(_UNSAFE.sub(lambda match: _json_escape(match[0]), line) for line in lines)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 0x7F else f"\\u{ord(character):04x}"
