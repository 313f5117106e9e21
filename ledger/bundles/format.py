"""What a bundle is: one zip file with entries, objects and scores, and a manifest with the digest of each of them.

| member | content |
|---|---|
| ``manifest.json`` | format, kind, tip, base model, entries oldest first, size and SHA-256 of every other member |
| ``entries/<id>.json`` | the canonical content of an entry, whose SHA-256 is its id |
| ``objects/<digest>/<file>`` | the files of an adapter |
| ``scores/<id>.json`` | scores of the state that an entry made: kind -> key -> value |
| ``signatures/<id>.json`` | signatures of an entry |

Members are stored, not compressed: equal content gives equal bytes, and no member can be larger than the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from ledger.history.entries import check_text, check_time
from ledger.names import check_digest
from ledger.objects.manifest import FileInfo
from ledger.queries.branches import check_name
from ledger.queries.tags import Tag
from seqedit.adapters.base import BaseModel
from seqedit.adapters.file_names import ALL as ADAPTER_FILES
from seqedit.errors import CheckFailed, InputError
from seqedit.support.digests import canonical_json

FORMAT = 1
MANIFEST_NAME = "manifest.json"
Kind = Literal["history", "entry"]

_SINGLE = re.compile(r"(entries|scores|signatures)/([0-9a-f]{64})\.json")
_OBJECT = re.compile(r"objects/([0-9a-f]{64})/(.+)")


@dataclass(frozen=True)
class BundleManifest:
    """Table of contents of a bundle.

    Attributes:
        kind: ``history``, all that led to a state; or ``entry``, one entry and its adapter.
        tip: Id of the newest entry.
        base_model: The unedited model.
        entries: Ids of all entries, every one after its parents.
        members: Name -> digest and size of every member but the manifest.
        tags: The tags of the ledger that are at one of its entries; as branches, no signature covers them.
    """

    kind: Kind
    tip: str
    base_model: BaseModel
    entries: tuple[str, ...]
    members: Mapping[str, FileInfo]
    tags: tuple[Tag, ...] = ()

    def objects(self) -> dict[str, list[str]]:
        """Digest -> names of the files of every object."""
        return self._objects

    @cached_property
    def _objects(self) -> dict[str, list[str]]:
        # Once: every adapter of the bundle is looked up in it.
        found: dict[str, list[str]] = {}
        for name in self.members:
            match = _OBJECT.fullmatch(name)
            if match:
                found.setdefault(match[1], []).append(match[2])
        return found

    def to_bytes(self) -> bytes:
        """The manifest member; equal manifests give equal bytes."""
        named = [asdict(tag) for tag in self.tags]
        return canonical_json(
            {
                "format": FORMAT,
                "kind": self.kind,
                "tip": self.tip,
                "base_model": {"name": self.base_model.name, "fingerprint": self.base_model.fingerprint},
                "entries": list(self.entries),
                "members": {name: {"sha256": i.sha256, "size": i.size} for name, i in self.members.items()},
                **({"tags": named} if named else {}),  # which older versions pass over
            }
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> BundleManifest:
        """Read the manifest member.

        Raises:
            InputError: it is of a format this version does not know.
            CheckFailed: it is malformed.
        """
        try:
            value: Any = json.loads(data)
            if value["format"] != FORMAT:
                raise InputError(
                    f"the bundle has format {value['format']!r}, this version knows {FORMAT}; install a newer seqedit"
                )
            if value["kind"] not in get_args(Kind):
                raise CheckFailed(f"the bundle is of the unknown kind {value['kind']!r}")
            members = {str(name): FileInfo(**info) for name, info in value["members"].items()}
            for name, info in members.items():
                check_member_name(name)
                check_digest(info.sha256)
                if type(info.size) is not int or info.size < 0:
                    raise CheckFailed(f"the bundle's manifest: the size of {name} is {info.size!r}")
            base = value["base_model"]
            if not isinstance(base["name"], str) or not isinstance(base["fingerprint"], str):
                raise CheckFailed("the bundle's manifest: the base model is malformed")
            return cls(
                kind=value["kind"],
                tip=check_digest(value["tip"]),
                base_model=BaseModel(base["name"], base["fingerprint"]),
                entries=tuple(check_digest(entry) for entry in value["entries"]),
                members=members,
                tags=_tags(value.get("tags", []), value["entries"]),
            )
        except (CheckFailed, InputError):
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckFailed(f"the bundle's manifest is malformed ({type(error).__name__}: {error})") from error


def _tags(found: Any, entries: Sequence[str]) -> tuple[Tag, ...]:
    """The tags of a manifest.

    Raises:
        CheckFailed: one can be none, is named twice, or is at an entry that the bundle does not hold.
    """
    tags: list[Tag] = []
    for data in found:
        tag = Tag(**data)
        try:
            check_name(tag.name, "tag")
            if tag.time:
                check_time(tag.time)
            for text in (tag.message, tag.author):
                check_text(text, f"what is said of tag '{tag.name}'")
        except (InputError, TypeError) as error:
            raise CheckFailed(f"the bundle's manifest: {error}") from error
        if tag.entry not in entries or tag.name in {other.name for other in tags}:
            raise CheckFailed(
                f"the bundle's manifest: tag '{tag.name}' is there twice, or at an entry that the bundle does not hold"
            )
        tags.append(tag)
    return tuple(tags)


def entry_member(identifier: str) -> str:
    """Name of an entry's member."""
    return f"entries/{identifier}.json"


def scores_member(identifier: str) -> str:
    """Name of the member with an entry's scores."""
    return f"scores/{identifier}.json"


def signatures_member(identifier: str) -> str:
    """Name of the member with an entry's signatures."""
    return f"signatures/{identifier}.json"


def object_member(digest: str, file: str) -> str:
    """Name of the member with a file of an object."""
    return f"objects/{digest}/{file}"


def check_member_name(name: str) -> str:
    """A member's name, unchanged.

    Raises:
        CheckFailed: no bundle has such a member, so it may be meant to escape from a directory.
    """
    match = _OBJECT.fullmatch(name)
    if name == MANIFEST_NAME or _SINGLE.fullmatch(name) or (match and match[2] in ADAPTER_FILES):
        return name
    raise CheckFailed(f"the bundle has a member {name!r}, which no bundle has; do not trust it")
