"""Nested fields of a benchmark's row, read strictly: every error names the whole path of the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqedit.errors import RequestError
from seqedit.facts.checks import check_text, label


class Fields:
    """An object of a row and where in the row it stands.

    Args:
        value: What was read there.
        path: Its path, e.g. ``requested_rewrite[1].target_new``; empty for the row itself.

    Raises:
        RequestError: it is not an object.
    """

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, Mapping):
            what = f"field '{path}' must be an object" if path else "expected a JSON object"
            raise RequestError(f"{what}, got {type(value).__name__}")
        self.value, self.path = value, path

    def name(self, field: str) -> str:
        """The whole path of a field."""
        return f"{self.path}.{field}" if self.path else field

    def has(self, field: str) -> bool:
        """Whether the field is there and not null."""
        return self.value.get(field) is not None

    def get(self, field: str) -> Any:
        """The field's value, whatever it is.

        Raises:
            RequestError: it is missing or null.
        """
        if not self.has(field):
            raise RequestError(f"field '{self.name(field)}' is missing")
        return self.value[field]

    def text(self, field: str) -> str:
        """The field as a text that is not blank."""
        text = check_text(self.get(field), self.name(field))
        if not text.strip():
            raise RequestError(f"field '{self.name(field)}' is empty")
        return text

    def object(self, field: str) -> Fields:
        """The field as an object."""
        return Fields(self.get(field), self.name(field))

    def objects(self, field: str) -> list[Fields]:
        """The field as a list of objects."""
        return [Fields(item, f"{self.name(field)}[{i}]") for i, item in enumerate(self._list(field))]

    def texts(self, field: str, *, optional: bool = False) -> tuple[str, ...]:
        """The field as a list of texts, the blank ones left out; a missing optional field has none."""
        if optional and not self.has(field):
            return ()
        found = [check_text(item, f"{self.name(field)}[{i}]") for i, item in enumerate(self._list(field))]
        return tuple(text for text in found if text.strip())

    def _list(self, field: str) -> list[Any]:
        value = self.get(field)
        if not isinstance(value, list):
            raise RequestError(f"field '{label(self.name(field))}' must be a list, got {type(value).__name__}")
        return value
