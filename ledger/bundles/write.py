"""Writing a bundle: a history, or one entry with its adapter, as one file that another ledger imports."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import BinaryIO

from ledger.bundles.format import (
    MANIFEST_NAME,
    BundleManifest,
    Kind,
    entry_member,
    object_member,
    scores_member,
    signatures_member,
)
from ledger.database import rows
from ledger.database.scores import load_scores
from ledger.errors import failures
from ledger.history.entries import Entry
from ledger.objects.manifest import FileInfo, Manifest
from ledger.queries.revisions import resolve
from ledger.queries.tags import Tag, tags
from ledger.reading import Reader
from ledger.upkeep.signing import signatures_of
from seqedit.errors import CheckFailed, InputError
from seqedit.support.digests import canonical_json
from seqedit.support.writing import new_file

_CHUNK = 1 << 20
_ENTRIES = 100  # how many entries one query reads
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold; the same for every member


@dataclass(frozen=True)
class BundlePlan:
    """What a bundle will hold.

    Attributes:
        kind: ``history`` or ``entry``.
        tip: Id of the newest entry.
        entries: Ids of its entries, every one after its parents.
        objects: Adapter digest -> its files.
        scores: Whether scores go with them.
        tags: Tags that are at its entries.
    """

    kind: Kind
    tip: str
    entries: tuple[str, ...]
    objects: dict[str, Manifest]
    scores: bool
    tags: tuple[Tag, ...] = ()

    @property
    def object_bytes(self) -> int:
        """Bytes of all objects, nearly all of the bundle."""
        return sum(info.size for manifest in self.objects.values() for info in manifest.files.values())


def plan_bundle(ledger: Reader, rev: str = rows.HEAD, *, single: bool = False, scores: bool = True) -> BundlePlan:
    """What `write_bundle` will write; nothing is read but the database.

    Args:
        ledger: The ledger.
        rev: The state whose whole history it is; or the entry, with ``single``.
        single: One entry and its adapter, for a ledger with another history. Scores, which are those of a state,
            stay behind.
        scores: Whether recorded scores go with the entries.

    Raises:
        InputError: no such revision, or ``single`` names an entry without an adapter.
        CheckFailed: the files of an object are not recorded.
    """
    with ledger.database.read() as connection:
        tip = resolve(connection, rev)
        nodes = rows.load_nodes(connection)
        ids = (tip,) if single else _ancestors(nodes, tip)
        digests = sorted({digest for i in ids if (digest := nodes[i].adapter) is not None})
        if single and not digests:
            raise InputError(f"entry {tip[:12]} ({nodes[tip].operation}) adds no adapter; export its history instead")
        objects = {}
        for digest in digests:
            manifest = rows.load_manifest(connection, digest)
            if manifest is None:
                raise CheckFailed(f"the files of object {digest[:12]} are not recorded; run verify")
            objects[digest] = manifest
        named = () if single else tuple(tag for tag in tags(connection) if tag.entry in set(ids))
    return BundlePlan("entry" if single else "history", tip, ids, objects, scores and not single, named)


def check_new_bundle(path: str | Path) -> None:
    """Refuse a place for a bundle where something is.

    Raises:
        InputError: the file exists.
    """
    if os.path.lexists(Path(path).absolute()):
        raise InputError(f"{path} exists; choose another --out")


def write_bundle(ledger: Reader, plan: BundlePlan, path: str | Path) -> BundleManifest:
    """Write a bundle, whole or not at all; equal content gives equal bytes.

    Args:
        ledger: The ledger.
        plan: From `plan_bundle`.
        path: File to write; must not exist.

    Returns:
        Its manifest.

    Raises:
        InputError: the file exists.
        CheckFailed: an object is missing or damaged.
        EnvironmentFailure: disk or database failed.
    """
    check_new_bundle(path)
    target = Path(path).absolute()
    with failures(str(path)), new_file(target) as temporary, temporary.open("xb") as stream:
        manifest = _write(ledger, plan, stream)
    return manifest


def _write(ledger: Reader, plan: BundlePlan, stream: BinaryIO) -> BundleManifest:
    members: dict[str, FileInfo] = {}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for entry in _entries(ledger, sorted(plan.entries)):
            _add(archive, members, entry_member(entry.id), entry.content.encode())
        for digest, manifest in sorted(plan.objects.items()):
            for name, info in sorted(manifest.files.items()):
                try:
                    with ledger.store.open(f"{ledger.store.path(digest)}/{name}") as source:
                        found = _copy(archive, object_member(digest, name), source, info.size)
                except FileNotFoundError as error:
                    raise CheckFailed(f"object {digest[:12]}: file {name} is missing; run verify") from error
                if found != info:
                    raise CheckFailed(f"object {digest[:12]}: file {name} is damaged; run verify")
                members[object_member(digest, name)] = found
        for identifier, values in _scores(ledger, sorted(plan.entries) if plan.scores else []):
            _add(archive, members, scores_member(identifier), canonical_json(values).encode())
        for identifier, signatures in _signatures(ledger, sorted(plan.entries)):
            _add(archive, members, signatures_member(identifier), canonical_json(signatures).encode())
        manifest_ = BundleManifest(plan.kind, plan.tip, ledger.base_model, plan.entries, members, plan.tags)
        # Last, because it holds the digests of what has just been read.
        _add(archive, {}, MANIFEST_NAME, manifest_.to_bytes())
    return manifest_


def _add(archive: zipfile.ZipFile, members: dict[str, FileInfo], name: str, data: bytes) -> None:
    members[name] = _copy(archive, name, io.BytesIO(data), len(data))


def _copy(archive: zipfile.ZipFile, name: str, source: BinaryIO, size: int) -> FileInfo:
    """Write one member in chunks; returns what was written."""
    info = zipfile.ZipInfo(name, _TIMESTAMP)
    info.create_system, info.external_attr = 3, 0o100644 << 16  # as on Unix, wherever it is written
    info.file_size = size  # decides whether the member needs the large-file fields
    digest, written = hashlib.sha256(), 0
    with archive.open(info, "w") as target:
        while (chunk := source.read(_CHUNK)) and written <= size:
            digest.update(chunk)
            written += len(chunk)
            target.write(chunk)
    return FileInfo(digest.hexdigest(), written)


def _ancestors(nodes: dict[str, rows.EntryNode], tip: str) -> tuple[str, ...]:
    """An entry and everything it descends from, merged branches included; every entry after its parents."""
    found: set[str] = set()
    waiting = [tip]
    while waiting:
        identifier = waiting.pop()
        if identifier in found:
            continue
        if identifier not in nodes:
            raise CheckFailed(f"entry {identifier[:12]} in the history of {tip[:12]} is missing; run verify")
        found.add(identifier)
        waiting += nodes[identifier].parents
    # By generation alone a merge could come before the end of a longer branch that it merges.
    order: TopologicalSorter[str] = TopologicalSorter()
    for identifier in sorted(found, key=lambda i: (nodes[i].generation, i)):
        order.add(identifier, *nodes[identifier].parents)
    try:
        return tuple(order.static_order())
    except CycleError as error:
        raise CheckFailed(f"the history of {tip[:12]} runs in a circle; run verify") from error


def _entries(ledger: Reader, ids: list[str]) -> Iterator[Entry]:
    for start in range(0, len(ids), _ENTRIES):
        with ledger.database.read() as connection:
            found = rows.load_entries(connection, ids[start : start + _ENTRIES])
        yield from found


def _scores(ledger: Reader, ids: Iterable[str]) -> Iterator[tuple[str, dict[str, dict[str, object]]]]:
    for identifier in ids:  # one at a time: scores per document and prompt can be larger than an adapter
        with ledger.database.read() as connection:
            values = load_scores(connection, [identifier])[identifier]
        if values:
            yield identifier, values


def _signatures(ledger: Reader, ids: list[str]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with ledger.database.read() as connection:
        for signature in signatures_of(connection, ids):
            values = {"key": signature.key, "signature": signature.signature, "time": signature.time}
            found.setdefault(signature.entry, []).append(values)
    yield from sorted(found.items())
