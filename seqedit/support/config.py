"""Frozen dataclass configurations: fields with help texts, read strictly from JSON types."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean


def setting(default: Any, text: str) -> Any:
    """A dataclass field with a help text."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all settings: built from JSON types, and back."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from JSON types.

        Raises:
            InputError: an unknown field (with the closest legal name) or a value of the wrong type.
        """
        types_of = typing.get_type_hints(cls)
        known = [f.name for f in fields(cls)]
        values = {}
        for name, value in data.items():
            if name not in known:
                hint = did_you_mean(str(name), known)
                raise InputError(f"unknown setting '{name}'{hint} (known: {', '.join(known)})")
            values[name] = coerce(name, value, types_of[name])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def coerce(name: str, value: Any, kind: Any) -> Any:
    """A JSON value as the type of a field; strings from the command line are read as that type.

    Nothing is rounded or cut: 1.5 and true are no integers, neither alone nor in a list.

    Args:
        name: What an error calls the setting.
        value: The value.
        kind: bool, int, float, str, a Literal, a tuple of any length of one of these, or a union of these and None.

    Raises:
        InputError: names the setting, the value and what is expected.
        TypeError: a kind that no setting can have.
    """
    try:
        return _coerced(value, kind)
    except (ValueError, OverflowError) as error:
        hint = did_you_mean(value, _words(kind)) if isinstance(value, str) else ""
        raise InputError(f"setting '{name}' must be {_expected(kind)}, got {value!r}{hint}") from error


def _coerced(value: Any, kind: Any) -> Any:
    """As `coerce`; ValueError for a value that is not of the kind."""
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _of_union(value, members)
    if origin is Literal:
        for member in members:  # 1 == True, so the types are compared too
            if type(value) is type(member) and value == member:
                return member
        for member in members:
            if isinstance(value, str) and not isinstance(member, str) and value.strip() == str(member):
                return member
        raise ValueError(value)
    if origin is tuple:
        if len(members) != 2 or members[1] is not Ellipsis:
            raise TypeError(f"a setting cannot be a {kind}")
        parts = _listed(value)
        return tuple(_coerced(part, members[0]) for part in parts)
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    raise TypeError(f"a setting cannot be a {kind}")


def _words(kind: Any) -> list[str]:
    """The words that a kind of value can be."""
    members = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return [str(member) for member in members]
    return [word for member in members for word in _words(member)]


def _listed(value: Any) -> list[Any]:
    """The parts of a list: ``[1, 2]``, a scalar for a list of one, or the text ``1,2``, ``1 2`` or ``[1, 2]``."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        return [part.strip("\"'") for part in text.replace(",", " ").split()]
    if isinstance(value, list | tuple):
        return list(value)
    if value is None or isinstance(value, Mapping | set):
        raise ValueError(value)
    return [value]


def _of_union(value: Any, members: tuple[Any, ...]) -> Any:
    """The first member that the value is of as it stands, else the first that it can be read as."""
    if type(None) in members and (value is None or (isinstance(value, str) and value.lower() in ("none", "null"))):
        return None
    rest = [member for member in members if member is not type(None)]
    for member in sorted(rest, key=lambda member: type(value) is not member):
        try:
            return _coerced(value, member)
        except (ValueError, OverflowError):
            continue
    raise ValueError(value)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError(value)


def _number(value: Any) -> int | float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)
    return value


def _int(value: Any) -> int:
    given = _number(value)
    with suppress(ValueError):
        return int(given) if not isinstance(given, float) else _whole(given)
    return _whole(float(given))  # "1e3"


def _whole(number: float) -> int:
    if number != int(number):
        raise ValueError(number)
    return int(number)


def _float(value: Any) -> float:
    number = float(_number(value))
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


_SCALARS: Mapping[type, Callable[[Any], Any]] = {bool: _bool, int: _int, float: _float, str: _str}


def _expected(kind: Any) -> str:
    """What a value of a kind is called in an error."""
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("none" if member is type(None) else _expected(member) for member in members)
    if origin is Literal:
        return "one of " + ", ".join(map(str, members))
    if origin is tuple:
        return f"a list of {_PLURALS.get(members[0]) or _expected(members[0])}"
    return "true or false" if kind is bool else str(getattr(kind, "__name__", kind))


_PLURALS = {int: "integers", float: "numbers", str: "strings", bool: "true or false"}


def check_positive(config: Config, *names: str, zero: bool = False) -> None:
    """Refuse settings that are not greater than 0 (or, with ``zero``, less than 0); None is not checked.

    Raises:
        InputError: names the setting and its value.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not (value >= 0 if zero else value > 0):
            raise InputError(f"setting '{name}' must {'not be negative' if zero else 'be greater than 0'}, got {value}")
