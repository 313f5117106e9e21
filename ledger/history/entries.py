"""The immutable entry: one step of a history, named by the digest of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ledger.history.graph import OPERATIONS
from ledger.names import check_digest
from seqedit.adapters.base import BaseModel
from seqedit.errors import InputError
from seqedit.facts.requests import FRAMING, Request
from seqedit.support.digests import canonical_json

ENTRY_FORMAT = 1
"""Of an entry that says no more than the first version's: what every version reads."""
TOLD_FORMAT = 2
"""Of an entry with one of the fields `_TOLD`, which older versions do not know."""
FRAMED_FORMAT = 3
"""Of an entry with requests whose joint or chat template is named, which older versions do not know either."""
_TOLD = ("reason", "origin", "rewrite", "facts_file")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def utc_now() -> str:
    """The current time as entries store it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).strftime(TIME_FORMAT)


def content_id(content: str) -> str:
    """Entry id of canonical content: its SHA-256 in hex."""
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Entry:
    """One step of a history. Equal content has an equal `id`, on every machine.

    Attributes:
        base_model: The unedited model the history starts from.
        operation: Name in `ledger.history.graph.OPERATIONS`.
        parents: Ids of the entries this one follows; the first is the history it extends.
        adapter: Digest of the adapter it adds, or None.
        targets: Ids of the earlier entries it acts on (what a revert takes out of force).
        method: Method name and every configuration field, as JSON types.
        requests: The facts its adapter edits.
        author: Free text.
        time: ISO 8601, UTC, whole seconds: ``2026-01-31T12:00:00Z``.
        message: Free text.
        reason: Why it was done, where that was said; free text.
        origin: Id of the entry whose facts it takes over from elsewhere (a cherry-pick), or None.
        rewrite: What a rebase or reorder that ended with this entry did (`ledger.history.rewrites`), as JSON types.
        facts_file: The file its facts were read from: its ``name`` and the ``sha256`` of its bytes; empty where they
            came from none.
        content: Canonical JSON of all of the above; computed. Of the last four, only those that say something.
        id: SHA-256 (hex) of `content`; computed.
    """

    base_model: BaseModel
    operation: str
    time: str
    parents: tuple[str, ...] = ()
    adapter: str | None = None
    targets: tuple[str, ...] = ()
    method: Mapping[str, Any] = field(default_factory=dict)
    requests: tuple[Request, ...] = ()
    author: str = ""
    message: str = ""
    reason: str = ""
    origin: str | None = None
    rewrite: Mapping[str, Any] = field(default_factory=dict)
    facts_file: Mapping[str, str] = field(default_factory=dict)
    content: str = field(init=False, repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        rule = OPERATIONS.get(self.operation)
        if rule is None:
            raise InputError(f"unknown operation '{self.operation}'; known: {', '.join(OPERATIONS)}")
        rule.check(self.operation, self.parents, self.adapter, self.targets)
        for digest in (*self.parents, *self.targets, self.adapter, self.origin):
            if digest is not None:
                check_digest(digest)
        check_time(self.time)
        for name in ("author", "message", "reason"):
            check_text(getattr(self, name), f"the entry's {name}")
        _check_facts_file(self.facts_file)
        check_texts(self.requests)
        try:
            content = canonical_json(self._fields())
            content.encode()
        except (TypeError, ValueError) as error:
            raise InputError(f"the entry's method and requests must be plain JSON ({error})") from error
        # The canonical text is the truth: a tuple in the configuration reads back as the list it was stored as.
        stored = json.loads(content)
        object.__setattr__(self, "method", stored["method"])
        object.__setattr__(self, "rewrite", stored.get("rewrite", {}))
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "id", content_id(content))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def reverts(self) -> str | None:
        """Id of the entry that a revert takes out of force; None for every other operation."""
        return self.targets[0] if self.operation == "revert" else None

    @property
    def tells(self) -> bool:
        """Whether it has a reason, an origin or a rewrite."""
        return bool(self.reason or self.origin or self.rewrite)

    def _fields(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in _TOLD if getattr(self, name)}
        framed = any(request.framed for request in self.requests)
        return {
            "format": FRAMED_FORMAT if framed else TOLD_FORMAT if told else ENTRY_FORMAT,
            "base_model": {"name": self.base_model.name, "fingerprint": self.base_model.fingerprint},
            "operation": self.operation,
            "parents": list(self.parents),
            "adapter": self.adapter,
            "targets": list(self.targets),
            "method": dict(self.method),
            "requests": [request.to_dict() for request in self.requests],
            "author": self.author,
            "time": self.time,
            "message": self.message,
            **told,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything the entry says, with its id, as JSON types."""
        return {"id": self.id, **json.loads(self.content)}

    @classmethod
    def from_content(cls, content: str) -> Entry:
        """Read an entry back from its canonical content.

        Raises:
            InputError: the content is malformed, or of a format this version does not know.
        """
        try:
            data = json.loads(content)
            framed = any(not set(FRAMING).isdisjoint(request) for request in data["requests"])
            known = (FRAMED_FORMAT,) if framed else (ENTRY_FORMAT, TOLD_FORMAT)
            if (number := data.pop("format")) not in known:
                raise InputError(
                    f"the entry's format {number!r} is unknown to this version (it knows {ENTRY_FORMAT}, "
                    f"{TOLD_FORMAT} and, of requests that name their joint or chat template, {FRAMED_FORMAT}); "
                    "install a newer seqedit"
                )
            data["base_model"] = BaseModel(**data["base_model"])
            data["parents"], data["targets"] = tuple(data["parents"]), tuple(data["targets"])
            data["requests"] = tuple(Request.from_dict(request) for request in data["requests"])
            return cls(**data)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise InputError(f"malformed entry ({type(error).__name__}: {error})") from error


def root_entry(base_model: BaseModel, *, author: str, time: str, message: str) -> Entry:
    """The entry every history starts with: the unedited model, no adapter. Baseline scores hang on it."""
    return Entry(base_model, "root", time, author=author, message=message)


def short_ids(ids: Iterable[str]) -> str:
    """Ids as error messages show them."""
    return ", ".join(i[:12] for i in ids)


def check_texts(requests: Iterable[Request]) -> None:
    """Refuse requests whose text no database could store.

    Raises:
        InputError: names the request's position (from 0) and the field.
    """
    for position, request in enumerate(requests):
        for name, value in request.to_dict().items():
            if isinstance(value, str):
                check_text(value, f"request {position}: field '{name}'")


def _check_facts_file(value: Any) -> None:
    """Refuse what is neither empty nor the name and the digest of a file."""
    if not isinstance(value, Mapping) or set(value) not in (set(), {"name", "sha256"}):
        raise InputError("the entry's facts_file must be empty or have the fields 'name' and 'sha256'")
    if value:
        check_text(value["name"], "the entry's facts_file")
        check_digest(value["sha256"])


def check_time(time: str) -> None:
    """Refuse what is no time as entries store it."""
    try:
        good = datetime.strptime(time, TIME_FORMAT).strftime(TIME_FORMAT) == time
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(f"the entry's time {time!r} is not ISO 8601 in UTC with whole seconds (2026-01-31T12:00:00Z)")


def check_text(text: str, what: str) -> None:
    """Refuse what some database cannot store: NUL (PostgreSQL) and lone surrogates (no UTF-8)."""
    if "\0" in text:
        raise InputError(f"{what} holds a NUL character: {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not valid Unicode: {text!r}") from error
