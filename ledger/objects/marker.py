"""Whose a store is: a marker file says that a directory is an object store, so that nothing else is ever emptied."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass, replace

from ledger.objects.objects import MARKER, SNAPSHOTS, TEMPORARY, ObjectStore, is_unfinished_marker
from seqedit.errors import CheckFailed, EnvironmentFailure
from seqedit.support.digests import canonical_json

FORMAT = 1
# What our writers name what they leave behind; gc empties these two directories.
_OURS = {
    TEMPORARY: re.compile(r"(?:[0-9a-f]{12}|written|removed)-[a-z0-9_]{8}"),
    SNAPSHOTS: re.compile(r"[0-9a-f]{64}\.safetensors"),
}


@dataclass(frozen=True)
class Marker:
    """What a store says of itself.

    Attributes:
        id: Its name for life.
        complete: Whether every ledger that uses it is registered. A store of the time before there were markers may
            have others; its objects stay until somebody says that there are none.
    """

    id: str
    complete: bool = True

    @classmethod
    def new(cls, seed: str | None = None, *, complete: bool = True) -> Marker:
        """A marker with a random id, or one that follows from what the store belongs to."""
        name = uuid.uuid4().hex if seed is None else hashlib.sha256(f"seqedit store {seed}".encode()).hexdigest()[:32]
        return cls(name, complete)

    def confirmed(self) -> Marker:
        """The same store, of which all ledgers are registered."""
        return replace(self, complete=True)

    def to_bytes(self) -> bytes:
        """The file: JSON with a digest of the rest, so that damage is seen."""
        data = {"format": FORMAT, "kind": "seqedit object store", "id": self.id, "complete": self.complete}
        return canonical_json({**data, "sha256": _digest(data)}).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Marker:
        """Inverse of `to_bytes`.

        Raises:
            ValueError: it is none, or damaged.
        """
        try:
            data = json.loads(content)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(data, dict) or data.pop("sha256", None) != _digest(data):
            raise ValueError("not what was written")
        if data.get("format") != FORMAT or not isinstance(data.get("id"), str):
            raise ValueError(f"of format {data.get('format')!r}, which this version does not know")
        return cls(data["id"], data.get("complete") is True)


def _digest(data: dict[str, object]) -> str:
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def read_marker(store: ObjectStore) -> Marker | None:
    """The marker of a store, or None where it has none.

    Raises:
        CheckFailed: it cannot be read as one.
        EnvironmentFailure: the store cannot be reached.
    """
    try:
        with store.open(MARKER) as stream:
            content = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except EnvironmentFailure:
        raise
    except OSError as error:
        raise EnvironmentFailure(f"object store {store.url}: {MARKER}: {error}") from error
    try:
        return Marker.from_bytes(content)
    except ValueError as error:
        if is_empty(store):
            return None  # elsewhere than on a local disk a file is not there at once: its writer was killed
        raise CheckFailed(
            f"object store {store.url}: {MARKER} is damaged ({error}). Remove the file if this is a store of seqedit; "
            "a ledger that has objects here will mark it anew"
        ) from error


def is_empty(store: ObjectStore) -> bool:
    """Whether a store holds nothing, but for what a killed first writer of a marker may have left."""
    return all(kind == "file" and (name == MARKER or is_unfinished_marker(name))
               for name, (kind, _) in store.children("").items())  # fmt: skip


def first_foreign(store: ObjectStore) -> str | None:
    """Something in the directories that gc empties which none of our writers has put there, or None."""
    for directory, ours in _OURS.items():
        for name in sorted(store.children(directory)):
            if not ours.fullmatch(name):
                return f"{directory}/{name}"
    return None
