"""Types and bounds of what an adapter directory says about itself, checked before any of it is used.

Anyone may have made the files. Whatever a field holds, the answer is an adapter or an error that names file and field,
and nothing in them takes more memory, or writes a larger file, than their own size explains.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqedit.errors import InputError
from seqedit.facts.checks import short
from seqedit.facts.requests import Request

MAX_DEPTH = 32
"""How deep lists and objects may nest: written with indentation, a file grows with the square of the depth."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_KINDS = ("low_rank", "dense")


def load_json(text: str | bytes) -> Any:
    """JSON of which every value can be digested and written again.

    Raises:
        InputError: it is no JSON; a number is not finite or has more digits than Python reads; it nests too deep; a
            text holds half a surrogate pair. Names the field where there is one.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise InputError(f"not readable as JSON (it nests deeper than {MAX_DEPTH})") from None
    except ValueError as error:
        raise InputError(f"not readable as JSON ({error})") from error
    _check_value(value, "", MAX_DEPTH)
    return value


def _check_value(value: Any, field: str, depth: int) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"field '{field}' is not a finite number")
    if isinstance(value, str):
        _check_text(value, field)
    elif isinstance(value, dict | list):
        if not depth:
            raise InputError(f"field '{field[:100]}' nests deeper than {MAX_DEPTH}")
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(key, str):
                _check_text(key, field)
            _check_value(item, f"{field}.{key}"[-200:] if field else str(key)[:100], depth - 1)


def _check_text(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise InputError(f"field '{short(field)}' holds half of a surrogate pair (U+{code:04X})") from None


def check_sidecar(sidecar: Mapping[str, Any]) -> None:
    """Refuse a sidecar with a field that is missing or of another type.

    Raises:
        InputError: names the field.
    """
    digest = _field(sidecar, "digest", str)
    if not _DIGEST.fullmatch(digest):
        raise InputError(f"field 'digest' must be 64 hexadecimal digits, got {short(digest)}")
    base = _field(sidecar, "base_model", dict)
    for name in ("name", "fingerprint"):
        _field(base, name, str, "base_model.")
    for name in base:
        if name not in ("name", "fingerprint"):
            raise InputError(f"field 'base_model.{name[:100]}' is not known")
    for name in ("method", "provenance"):
        _field(sidecar, name, dict)
    check_modules(_field(sidecar, "modules", dict))
    for number, request in enumerate(_field(sidecar, "requests", list)):
        if not isinstance(request, dict):
            raise InputError(f"field 'requests.{number}' must be an object, got {type(request).__name__}")
        try:
            Request.from_dict(request)
        except InputError as error:
            raise InputError(f"field 'requests.{number}': {error}") from error


def check_modules(modules: Any) -> None:
    """Refuse a description of the modules that is not kind and rank of each.

    Args:
        modules: What should be: module name -> {"kind": "low_rank" | "dense", "rank": n}.

    Raises:
        InputError: names the field.
    """
    if not isinstance(modules, dict):
        raise InputError(f"field 'modules' must be an object, got {type(modules).__name__}")
    if not modules:
        raise InputError("field 'modules' is empty; an adapter needs the delta of at least one module")
    for name, info in modules.items():
        where = f"modules.{name[:100]}"
        if not isinstance(info, dict):
            raise InputError(f"field '{where}' must be an object, got {type(info).__name__}")
        kind, rank = _field(info, "kind", str, f"{where}."), _field(info, "rank", int, f"{where}.")
        if kind not in _KINDS:
            raise InputError(f"field '{where}.kind' must be one of {', '.join(_KINDS)}, got {short(kind)}")
        if not 1 <= rank < 2**31:
            raise InputError(f"field '{where}.rank' must be at least 1 and less than 2^31")


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse a configuration whose fields that are read here are of another type.

    Raises:
        InputError: names the field.
    """
    if "fan_in_fan_out" in config:
        _field(config, "fan_in_fan_out", bool)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object as `load_json` does; every failure is an `InputError` that names the file."""
    try:
        value = load_json(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; is {path.parent} an adapter directory written by seqedit?") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _field(value: Mapping[str, Any], name: str, kind: type, prefix: str = "") -> Any:
    if name not in value:
        raise InputError(f"field '{prefix}{name}' is missing")
    found = value[name]
    if type(found) is not kind:  # True is no number
        expected = {dict: "an object", list: "a list", str: "a text", int: "an integer", bool: "true or false"}[kind]
        raise InputError(f"field '{prefix}{name}' must be {expected}, got {type(found).__name__}")
    return found
