"""Ways in which a file can be wrong: cut off, emptied, of another type or encoding, not a file, wrong in one field."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]
"""Does its damage to what stands at a path."""

DEEP = 100_000
"""Levels of nesting: more than any parser goes down."""

WHOLE: dict[str, bytes] = {
    "of null": b"null",
    "of a number": b"17",
    "of a text": b'"a text"',
    "of true": b"true",
    "of not a number": b"NaN",
    "of an empty list": b"[]",
    "of an empty object": b"{}",
    "of lists": b"[[1], [2]]",
    "of nulls": b"[null, null]",
    "of another object": b'{"other": {"thing": [1, 2]}}',
    "of a list of other objects": b'[{"other": "thing"}]',
    "of half a surrogate pair": b'{"subject": "\\ud800", "prompt": "{} is", "target_new": "\\udfff"}',
    "of a number with too many digits": b'{"layers": 1' + b"0" * 5000 + b"}",
    "nested too deeply": b"[" * DEEP,
    "of objects nested too deeply": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "of YAML that contains itself": b"&a [*a]\n",
    "of a YAML mapping that contains itself": b"&a {a: *a}\n",
    "of YAML that names Python": b"a: !!python/object/apply:os.getcwd []\n",
    "of YAML with a tab": b"a:\n\t- b\n",
    "of YAML with keys that are no texts": b"1: 2\nnull: 3\n? [a]\n: 4\n",
    "of binary zeros": bytes(4096),
    "of bytes that are no text": bytes(range(255, 127, -1)) * 9,
    "of empty lines": b"\n\n \n",
    "of braces": b"{} {0} {subject} {} %s {",
}
"""What stands in the file instead."""

VALUES: dict[str, str] = {
    "null": "null", "true": "true", "-1": "-1", "0": "0", "1.5": "1.5", "1e400": "1e400", "NaN": "NaN",
    "a text": '"abc"', "an empty text": '""', "a list": "[1]", "an empty list": "[]", "an object": '{"a": 1}',
    "an empty object": "{}", "lists": "[[]]", "NUL": '"\\u0000"', "half a surrogate pair": '"\\ud800"',
    "a number in a text": '"2"', "braces": '"{ {} }"', "a huge number": "1" + "0" * 40, "too many digits": "1" * 5000,
    "a path that is not there": '"nowhere/at all"', "a folder": '"/"',
}  # fmt: skip
"""What stands in the place of one value of a JSON file, as it is written."""


def _cut(share: float) -> Damage:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        _write(path, data[: min(int(len(data) * share), len(data) - 1)])

    return damage


def _replaced(content: bytes) -> Damage:
    return lambda path: _write(path, content)


def _recoded(encoding: str) -> Damage:
    def damage(path: Path) -> None:
        _write(path, path.read_bytes().decode("latin-1").replace("e", "é").encode(encoding))

    return damage


def _with_zero(path: Path) -> None:
    data = path.read_bytes()
    _write(path, data[: len(data) // 2] + b"\0" + data[len(data) // 2 :])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), max(1, len(data) // 7)):
        data[place] ^= 0x55
    _write(path, bytes(data))


def _write(path: Path, data: bytes) -> None:
    """A new file: the old one may be linked from elsewhere."""
    remove(path)
    path.write_bytes(data)


def remove(path: Path) -> None:
    """Take away what is there, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _directory(path: Path) -> None:
    remove(path)
    path.mkdir()


def _folder_of_folders(path: Path) -> None:
    _directory(path)
    (path / "within" / "that").mkdir(parents=True)
    (path / "file").write_bytes(b"\xff")


def _loop(path: Path) -> None:
    remove(path)
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    remove(path)
    path.symlink_to("what is not there")


def _unreadable(path: Path) -> None:
    path.chmod(0)


OF_A_FILE: dict[str, Damage] = {
    "emptied": _replaced(b""),
    "cut to a byte": _replaced(b"{"),
    "cut to a third": _cut(0.33),
    "cut to two thirds": _cut(0.66),
    "without its last byte": _cut(1),
    "in UTF-16": _recoded("utf-16"),
    "in Latin-1": _recoded("latin-1"),
    "with a NUL byte": _with_zero,
    "with bits flipped": _flipped,
    **{name: _replaced(content) for name, content in WHOLE.items()},
}
OF_A_PLACE: dict[str, Damage] = {
    "missing": remove,
    "a directory": _directory,
    "a folder of other things": _folder_of_folders,
    "a symbolic link to itself": _loop,
    "a symbolic link to nothing": _dangling,
}
UNREADABLE: dict[str, Damage] = {"unreadable": _unreadable}
"""Not for the superuser, who reads everything."""


def in_fields(path: Path) -> dict[str, Damage]:
    """One damage per value of a JSON file and thing that it could be instead, and per key that could be missing.

    Args:
        path: A file; one that is no JSON object or list has no fields.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    found: dict[str, Damage] = {}
    for where in _places(document, ()):
        told = ".".join(map(str, where))
        for name, text in VALUES.items():
            found[f"with {name} for {told}"] = _field(document, where, text)
        if isinstance(where[-1], str):
            found[f"without {told}"] = _replaced(json.dumps(_without(document, where)).encode())
            renamed = copy.deepcopy(document)
            _at(renamed, where[:-1])[where[-1] + "_"] = _at(renamed, where[:-1]).pop(where[-1])
            found[f"with {told} misspelt"] = _replaced(json.dumps(renamed).encode())
    return found


def _places(value: Any, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in items:
        yield (*above, key)
        yield from _places(part, (*above, key))


def _at(document: Any, where: tuple[Any, ...]) -> Any:
    for key in where:
        document = document[key]
    return document


def _field(document: Any, where: tuple[Any, ...], text: str) -> Damage:
    marked = copy.deepcopy(document)
    _at(marked, where[:-1])[where[-1]] = "@@here@@"
    return _replaced(json.dumps(marked).replace('"@@here@@"', text).encode())


def _without(document: Any, where: tuple[Any, ...]) -> Any:
    rest = copy.deepcopy(document)
    del _at(rest, where[:-1])[where[-1]]
    return rest
