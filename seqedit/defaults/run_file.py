"""Kept options as fields of a run's file, where the file does not say them itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqedit.defaults.filling import taken
from seqedit.errors import InputError
from seqedit.support.reading import read_json

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "method": ("method",),
    "preset": ("preset",),
    "layers": ("settings", "layers"),
    "spread": ("settings", "spread"),
    "second-moments": ("second_moments", "file"),
    "text": ("second_moments", "text"),
    "context-templates": ("context_templates",),
    "zsre": ("zsre",),
    "gates": ("gates",),
    "on-gate": ("on_gate",),
    "tasks": ("tasks",),
    "task-documents": ("evals", "task_documents"),
    "drift-text": ("evals", "perplexity_text"),
    "seed": ("seed",),
    "dtype": ("dtype",),
    "device": ("device",),
}
"""Option -> the field of a run's file, or the mapping and the field in it."""


def with_kept(data: Mapping[str, Any], kept: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's file filled up with what its ledger keeps.

    Args:
        data: The file.
        kept: What the ledger keeps.

    Returns:
        The file's fields with those that were taken, and these by the names of the options.

    Raises:
        InputError: a kept file cannot be read any more.
    """
    filled = dict(data)
    given = {option for option, path in _FIELDS.items() if _at(data, path) is not None}
    found = taken(kept, given, _FIELDS)
    for option, value in found.items():
        first, *rest = _FIELDS[option]
        if not rest:
            filled[first] = _field(option, value)
        elif isinstance(filled.get(first) or {}, Mapping):  # anything else is refused by name when the file is read
            filled[first] = {**(filled.get(first) or {}), rest[0]: _field(option, value)}
    return filled, found


def _at(data: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = data
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _field(option: str, value: Any) -> Any:
    if option == "tasks":
        return {name: path or None for name, _, path in (item.partition("=") for item in value)}
    if option == "context-templates":
        try:
            return read_json(value)
        except InputError as error:
            raise InputError(f"context-templates of the ledger's configuration: {error}") from error
    return value
