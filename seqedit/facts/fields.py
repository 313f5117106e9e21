"""Fields of a fact file's row, read strictly: what every layout of `seqedit.facts.layouts` is built from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import normalize

from seqedit.errors import RequestError
from seqedit.facts.checks import check_text, short

Row = Mapping[str, Any]


def template(prompt: Any, subject: Any, name: str = "prompt") -> str:
    """A filled-in prompt as a template; the subject must be there exactly once."""
    for field, value in ((name, prompt), ("subject", subject)):
        if not check_text(value, field).strip():
            raise RequestError(f"field '{field}' is empty")
    if "{}" in prompt:
        return str(prompt)
    count = prompt.count(subject)
    if count != 1:
        found = "does not occur" if count == 0 else f"occurs {count} times"
        if count == 0 and normalize("NFC", subject) in normalize("NFC", prompt):
            found = "stands in another Unicode form (a letter and its accent as one character or as two)"
        raise RequestError(
            f"field '{name}': the subject {short(subject)} {found} in {short(prompt, 200)}; write the prompt with {{}} "
            "in its place"
        )
    return str(prompt.replace(subject, "{}"))


def strings(row: Row, field: str) -> tuple[str, ...]:
    """A field that is a string or a list of strings; blank ones stand for none (EasyEdit writes "" there)."""
    value = row.get(field)
    if value is None:
        return ()
    values = as_list(value)
    if not isinstance(values, Sequence) or not all(isinstance(v, str) for v in values):
        raise RequestError(f"field '{field}' must be a string or a list of strings")
    return tuple(v for v in values if v.strip())


def first_answer(value: Any, field: str) -> str | None:
    """The first answer of ``"a"``, ``["a", "b"]`` or ``[["a", "alias of a"], ["b"]]``."""
    while isinstance(value, Sequence) and not isinstance(value, str):
        value = next((item for item in value if item), None)
    if value is None or value == "":
        return None
    return check_text(value, field)


def an_object(value: Any, field: str) -> Row:
    """The value, if it is an object.

    Raises:
        TypeError: it is not; names the field.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"field '{field}' must be an object, got {type(value).__name__}")
    return value


def as_list(value: Any) -> Any:
    """A lone string as a list of one."""
    return [value] if isinstance(value, str) else value
