"""Reading a bundle that anyone may have made: nothing of it is believed before it is checked."""

from __future__ import annotations

import hashlib
import json
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from ledger.bundles.format import (
    MANIFEST_NAME,
    BundleManifest,
    check_member_name,
    entry_member,
    object_member,
    scores_member,
    signatures_member,
)
from ledger.database.rows import EntryNode
from ledger.database.scores import check_scores
from ledger.errors import failures
from ledger.history import graph
from ledger.history.entries import Entry, content_id
from ledger.history.rewrites import rewrites_in
from ledger.objects.manifest import FileInfo
from ledger.upkeep.signing import Signature
from seqedit.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from seqedit.adapters.adapter import Adapter

_CHUNK = 1 << 20
_ENCRYPTED = 0x1
_TAGS = 1 << 24  # bytes that the manifest's tags, whose number is not known before it is read, may take
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


class Bundle:
    """An opened bundle; close it, or use it as a context manager.

    Opening checks what costs nothing: that the file is a zip of plain, stored members whose names and sizes are those
    of the manifest. `verify` reads everything.

    Args:
        path: The file.

    Raises:
        InputError: there is no such file, or it is no bundle, or one of a newer format.
        CheckFailed: it is damaged or made up.
        EnvironmentFailure: it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"no bundle at {path}")
        with failures(str(path)):
            self.size = self.path.stat().st_size
            try:
                self._archive = zipfile.ZipFile(self.path)
            except _BROKEN as error:
                raise InputError(f"{path} is no bundle, or only part of one ({error})") from error
        try:
            self._infos = self._checked_infos()
            self.manifest = BundleManifest.from_bytes(self._manifest_bytes())
            self._check_members()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def entry(self, identifier: str) -> Entry:
        """One entry.

        Raises:
            CheckFailed: its content is not what its id names.
        """
        data = self._read(entry_member(identifier))
        try:
            content = data.decode()
            entry = Entry.from_content(content)
            rewrites_in([entry])  # refuses what blame could not read
        except (ValueError, RecursionError) as error:  # InputError is one
            raise CheckFailed(f"entry {identifier[:12]} of the bundle cannot be read: {error}") from error
        if content_id(content) != identifier or entry.id != identifier:
            raise CheckFailed(f"entry {identifier[:12]} of the bundle: its content is not what its id names")
        return entry

    def scores(self, identifier: str) -> dict[str, dict[str, Any]]:
        """Scores of the state that an entry made: kind -> key -> value.

        Raises:
            CheckFailed: they are malformed.
        """
        name = scores_member(identifier)
        if name not in self.manifest.members:
            return {}
        try:
            values = json.loads(self._read(name))
            return {kind: check_scores(kind, found) for kind, found in values.items()}
        except (InputError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CheckFailed(f"{name} of the bundle is malformed: {error}") from error

    def signatures(self, identifier: str) -> list[Signature]:
        """Signatures of an entry. Where the package to check them is missing they are taken on: `verify` asks again.

        Raises:
            CheckFailed: one is malformed, or does not hold.
        """
        name = signatures_member(identifier)
        if name not in self.manifest.members:
            return []
        try:
            found = [Signature(entry=identifier, **values) for values in json.loads(self._read(name))]
        except (ValueError, TypeError, RecursionError) as error:
            raise CheckFailed(f"{name} of the bundle is malformed: {error}") from error
        if find_spec("cryptography") is not None:
            for signature in found:
                if not signature.holds():
                    raise CheckFailed(
                        f"entry {identifier[:12]} of the bundle: key {signature.key[:12]} did not sign it"
                    )
        return found

    @contextmanager
    def adapter(self, digest: str) -> Iterator[Adapter]:
        """An adapter; its files are gone where the block ends.

        Raises:
            CheckFailed: it is not the adapter that its digest names.
        """
        from seqedit.adapters.adapter import Adapter
        from seqedit.support.memory import is_out_of_memory

        with tempfile.TemporaryDirectory() as scratch:
            directory = Path(scratch)
            for file in self.manifest.objects()[digest]:
                with (directory / file).open("xb") as target:
                    self._stream(object_member(digest, file), target)
            try:
                # What follows from the content is written anew from it, whatever the bundle's files say.
                adapter = Adapter.from_pretrained(directory, check_derived=False)
            except (ValueError, AttributeError, IndexError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise  # which says nothing about the bundle
                raise CheckFailed(f"object {digest[:12]} of the bundle is no adapter: {error}") from error
            if adapter.digest != digest:
                raise CheckFailed(f"object {digest[:12]} of the bundle holds adapter {adapter.digest[:12]} instead")
            yield adapter

    def verify(self) -> dict[str, EntryNode]:
        """Check every member: digests, ids, parents, rules of the history, adapters against their entries.

        Returns:
            The entries by id, in the manifest's order, as the graph algebra needs them. Memory holds one entry, one
            object or one entry's scores at a time besides.

        Raises:
            CheckFailed: names the first thing that is wrong.
        """
        nodes: dict[str, EntryNode] = {}
        users: dict[str, list[str]] = {}
        for identifier in self.manifest.entries:
            entry = self.entry(identifier)
            nodes[identifier] = self._node(entry, nodes)
            if entry.adapter is not None:
                users.setdefault(entry.adapter, []).append(identifier)
            self.scores(identifier)
            self.signatures(identifier)
        self._check_history(nodes)
        objects = self.manifest.objects()
        for digest in sorted({*users, *objects}):
            if digest not in objects:
                raise CheckFailed(f"the bundle lacks object {digest[:12]}, which entry {users[digest][0][:12]} adds")
            if digest not in users:
                raise CheckFailed(f"no entry of the bundle adds its object {digest[:12]}; do not trust it")
            with self.adapter(digest) as adapter:
                for identifier in users[digest]:
                    _check_user(self.entry(identifier), adapter)
        for name in self.manifest.members:
            if name.startswith(("scores/", "signatures/")) and name.split("/")[1][:64] not in nodes:
                raise CheckFailed(f"{name} of the bundle is about an entry that it does not hold")
        return nodes

    def _node(self, entry: Entry, earlier: Mapping[str, EntryNode]) -> EntryNode:
        if entry.base_model.fingerprint != self.manifest.base_model.fingerprint:
            raise CheckFailed(f"entry {entry.id[:12]} of the bundle is of another base model than the bundle")
        generation = 0
        if self.manifest.kind == "history":
            for parent in entry.parents:
                if parent not in earlier:
                    raise CheckFailed(f"entry {entry.id[:12]} of the bundle: its parent {parent[:12]} is missing")
            generation = earlier[entry.parents[0]].generation + 1 if entry.parents else 0
        return EntryNode(entry.id, entry.operation, entry.parents, entry.adapter, entry.targets, generation)

    def _check_history(self, nodes: Mapping[str, EntryNode]) -> None:
        if self.manifest.kind == "entry":
            if len(nodes) != 1 or nodes[self.manifest.tip].adapter is None:
                raise CheckFailed("a bundle of one entry must hold one entry with an adapter")
            return
        # The state's own history, and that of every branch merged into it.
        for identifier, why in graph.check_histories(nodes):
            raise CheckFailed(f"entry {identifier[:12]} of the bundle: {why}")
        waiting, seen = [self.manifest.tip], set()
        while waiting:
            node = nodes[waiting.pop()]
            if node.id not in seen:
                seen.add(node.id)
                waiting += node.parents
        if seen != set(nodes):
            extra = sorted(set(nodes) - seen)[0]
            raise CheckFailed(f"entry {extra[:12]} of the bundle is no part of the history of its tip")

    def _checked_infos(self) -> dict[str, zipfile.ZipInfo]:
        infos: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for info in self._archive.infolist():
            # The original name: zipfile cuts the other one at a NUL.
            name = check_member_name(info.orig_filename)
            if name in infos:
                raise CheckFailed(f"the bundle holds {name} twice; do not trust it")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):  # many writers leave the type out
                raise CheckFailed(f"{name} of the bundle is a link or directory, not a plain file; do not trust it")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise CheckFailed(f"{name} of the bundle is compressed; a bundle's members are stored as they are")
            if info.flag_bits & _ENCRYPTED:
                raise CheckFailed(f"{name} of the bundle is encrypted")
            infos[name] = info
            total += info.file_size
        # Members that overlap would add up to more than there is.
        if total > self.size:
            raise CheckFailed(f"the members of the bundle claim {total:,} bytes of a file of {self.size:,}")
        return infos

    def _manifest_bytes(self) -> bytes:
        info = self._infos.pop(MANIFEST_NAME, None)
        if info is None:
            raise InputError(f"{self.path} is no bundle: {MANIFEST_NAME} is missing")
        if info.file_size > _TAGS + 512 * (len(self._infos) + 1):
            raise CheckFailed(f"the bundle's manifest has {info.file_size:,} bytes for {len(self._infos)} members")
        with self._opened(info) as stream:
            return stream.read()

    def _check_members(self) -> None:
        members = self.manifest.members
        for name in sorted({*members, *self._infos}):
            if name not in self._infos:
                raise CheckFailed(f"the bundle lacks {name}")
            if name not in members:
                raise CheckFailed(f"the bundle's manifest does not know {name}; do not trust it")
            if members[name].size != self._infos[name].file_size:
                raise CheckFailed(f"{name} of the bundle has {self._infos[name].file_size} bytes, not as recorded")
        ids = self.manifest.entries
        if len(set(ids)) != len(ids) or {entry_member(i) for i in ids} != {m for m in members if m[:8] == "entries/"}:
            raise CheckFailed("the bundle's manifest lists other entries than the bundle holds")
        if not ids or ids[-1] != self.manifest.tip:
            raise CheckFailed("the bundle's tip is not its last entry")

    @contextmanager
    def _opened(self, info: zipfile.ZipInfo) -> Iterator[Any]:
        with failures(str(self.path)):
            try:
                with self._archive.open(info) as stream:
                    yield stream
            except _BROKEN as error:
                raise CheckFailed(f"{info.filename} of the bundle cannot be read: {error}") from error

    def _read(self, name: str) -> bytes:
        parts: list[bytes] = []
        self._stream(name, parts)
        return b"".join(parts)

    def _stream(self, name: str, target: BinaryIO | list[bytes]) -> None:
        digest, size = hashlib.sha256(), 0
        with self._opened(self._infos[name]) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                target.append(chunk) if isinstance(target, list) else target.write(chunk)
        if FileInfo(digest.hexdigest(), size) != self.manifest.members[name]:
            raise CheckFailed(f"{name} of the bundle is damaged: its bytes are not those that were recorded")


def _check_user(entry: Entry, adapter: Adapter) -> None:
    same = (
        entry.requests == tuple(adapter.requests)
        and entry.method == dict(adapter.method)
        and entry.base_model.fingerprint == adapter.base_model.fingerprint
    )
    if not same:
        raise CheckFailed(
            f"entry {entry.id[:12]} of the bundle names other requests, method or base model than its adapter"
        )
