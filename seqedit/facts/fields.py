"""Fields of a fact file's row, read strictly: what every layout of `seqedit.facts.layouts` is built from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import normalize

from seqedit.errors import RequestError
from seqedit.facts.checks import check_text, short
from seqedit.facts.requests import Request

Row = Mapping[str, Any]

_OTHER_SLOT = re.compile(r"\{\{\}\}|\{(?:subject|subj|\d?(?:[!:][^{}\s]*)?)\}|\[X\]", re.IGNORECASE)
"""Other ways to write a slot: that of a format string by name, number or format, doubled braces, ParaRel's."""


class FieldFault(RequestError):
    """A field that cannot be used, with what is wrong apart from the values, which differ from record to record.

    Args:
        message: What is wrong, with the values.
        kind: The same without them, by which records with one fault are told together.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def full_text(value: Any, name: str) -> str:
    """A text that is not blank.

    Raises:
        RequestError: names the field as the file has it.
    """
    if not check_text(value, name).strip():
        raise RequestError(f"field '{name}' is empty")
    return str(value)


def made_request(names: Mapping[str, str], **values: Any) -> Request:
    """A request whose faults are told by the names that its file has for the fields.

    Args:
        names: Field of the request -> its name in the file, where that differs.
        values: The request's fields.

    Raises:
        RequestError: a field is of another type, blank or too long, or the prompt has not one slot.
    """
    for field, value in values.items():
        if field == "case_id" or (value is None and field not in ("subject", "prompt", "target_new")):
            continue
        if field == "relation":
            check_text(value, names.get(field, field))
        else:
            full_text(value, names.get(field, field))
    name = names.get("prompt", "prompt")
    one_slot(values["prompt"], values["subject"], name)
    return Request(**values)


def one_slot(prompt: str, subject: str, name: str) -> None:
    """Refuse a template in which the subject's place is not plain.

    Raises:
        FieldFault: not one ``{}``, the subject itself beside it, or another slot beside it.
    """
    count = prompt.count("{}")
    if count != 1:
        raise FieldFault(
            f"field '{name}' must hold exactly one {{}} for the subject, found {count}: {short(prompt, 200)}",
            f"field '{name}' holds {{}} {count} times",
        )
    if _stands_in(subject, prompt.replace("{}", " ")):
        raise FieldFault(
            f"field '{name}' is ambiguous, with {{}} and the subject {short(subject)} itself: {short(prompt, 200)}; "
            "write {} or the subject, once",
            f"field '{name}' is ambiguous: it holds {{}} and the subject itself",
        )
    _no_other_slot(prompt, name)


def _no_other_slot(prompt: str, name: str) -> None:
    found = next((match[0] for match in _OTHER_SLOT.finditer(prompt) if match[0] != "{}"), None)
    if found is not None:
        raise FieldFault(
            f"field '{name}': {found} is no place for the subject: {short(prompt, 200)}; write {{}} there",
            f"field '{name}': {found} is no place for the subject; write {{}} there",
        )


def _stands_in(subject: str, text: str) -> bool:
    """Whether a text names the subject: not as a part of a word, as "I" stands in many, where scripts have words."""
    at = text.find(subject)
    while at >= 0:
        around = text[at - 1 : at], text[at + len(subject) : at + len(subject) + 1]
        # Letters without case are of scripts that do not part words, or that write particles to them.
        if not any(c.isdigit() or c.lower() != c.upper() for c in around):
            return True
        at = text.find(subject, at + 1)
    return False


def template(prompt: Any, subject: Any, name: str = "prompt") -> str:
    """A filled-in prompt as a template; the subject must be there exactly once, or ``{}`` in its place.

    Raises:
        RequestError: it is not; names the field.
    """
    prompt, subject = full_text(prompt, name), full_text(subject, "subject")
    count = prompt.count(subject)
    # A subject with braces of its own fills a prompt that has no others.
    filled_in = "{}" not in prompt or ("{}" in subject and count == 1 and "{}" not in prompt.replace(subject, ""))
    if not filled_in:
        one_slot(prompt, subject, name)
        return prompt
    _no_other_slot(prompt.replace(subject, ""), name)
    if count != 1:
        found = "does not occur" if count == 0 else f"occurs {count} times"
        if count == 0 and normalize("NFC", subject) in normalize("NFC", prompt):
            found = "stands in another Unicode form (a letter and its accent as one character or as two)"
        raise FieldFault(
            f"field '{name}': the subject {short(subject)} {found} in {short(prompt, 200)}; write the prompt with {{}} "
            "in its place",
            f"field '{name}': the subject {found}",
        )
    return prompt.replace(subject, "{}")


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
        value = next((item for item in value if item and (not isinstance(item, str) or item.strip())), None)
    if value is None or (isinstance(value, str) and not value.strip()):
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
