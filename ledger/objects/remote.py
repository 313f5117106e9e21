"""Objects on any fsspec file system."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from ledger.errors import failures
from ledger.objects.audit import intact
from ledger.objects.manifest import MANIFEST, Manifest
from ledger.objects.objects import MARKER, Kind, ObjectStore, Usage, Writer
from ledger.objects.remote_files import RemoteFiles
from ledger.url_secrets import without_password
from seqedit.errors import CheckFailed


class RemoteStore(ObjectStore):
    """Objects on any fsspec file system. The manifest, written last, makes an object exist.

    Args:
        url: fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = without_password(url)
        self.fs = RemoteFiles(url)

    @property
    def root(self) -> str:
        """The store's path in the file system."""
        return self.fs.root

    def put(self, digest: str, write: Writer) -> Manifest:
        path = self.path(digest)
        with failures(f"object store {self.url}"), tempfile.TemporaryDirectory() as scratch:
            present = intact(self, digest)
            if present is not None:
                return present
            directory = Path(scratch) / "new"
            write(directory)
            manifest = Manifest.of_directory(digest, directory)
            base = f"{self.root}/{path}"
            self._clear(path, set(manifest.files))
            self.fs.makedirs(base, exist_ok=True)
            for name in manifest.files:
                self.fs.put_file(str(directory / name), f"{base}/{name}")
            self.fs.pipe_file(f"{base}/{MANIFEST}", manifest.to_bytes())
        return manifest

    def _clear(self, path: str, keep: set[str]) -> None:
        """Make room for an object. Files of its names stay, for they may be those of a writer at work."""
        there = self.children(path)
        # Without its manifest a damaged object is gone at once, whatever happens to the rest.
        for name in sorted(set(there) - keep, key=lambda name: name != MANIFEST):
            self.fs.rm(f"{self.root}/{path}/{name}", recursive=there[name][0] == "directory")

    @contextmanager
    def directory(self, digest: str) -> Iterator[Path]:
        manifest = self.manifest(digest)
        if manifest is None:
            raise CheckFailed(f"object {digest[:12]} is missing from {self.url}; run verify")
        with tempfile.TemporaryDirectory() as scratch:
            for name in manifest.files:
                try:
                    self.fs.get_file(f"{self.root}/{self.path(digest)}/{name}", str(Path(scratch) / name))
                except FileNotFoundError as error:
                    raise CheckFailed(f"object {digest[:12]}: file {name} is missing from {self.url}") from error
            yield Path(scratch)

    def children(self, path: str) -> dict[str, tuple[Kind, int]]:
        try:
            place = f"{self.root}/{path}".rstrip("/")
            found: list[dict[str, Any]] = self.fs.ls(place, detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {
            str(item["name"]).rstrip("/").rsplit("/", 1)[-1]: (
                item["type"] if item["type"] in ("file", "directory") else "other",
                int(item.get("size") or 0),
            )
            for item in found
        }

    def open(self, path: str) -> BinaryIO:
        # Fetched as a whole: a connection that broke while a caller reads would raise what no caller knows.
        with tempfile.TemporaryDirectory() as scratch:
            self.fs.get_file(f"{self.root}/{path}", f"{scratch}/file")
            return Path(scratch, "file").open("rb")

    def mark(self, data: bytes) -> None:
        self.write(MARKER, data)

    def write(self, path: str, data: bytes, *, durable: bool = False) -> None:
        with failures(f"object store {self.url}"):
            target = f"{self.root}/{path}"
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self.fs.pipe_file(target, data)

    def usage(self, path: str) -> Usage | None:
        try:
            found: dict[str, dict[str, Any]] = self.fs.find(f"{self.root}/{path}", detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not found:
            return None
        times = [self._modified(name, info) for name, info in found.items()]
        known = [time for time in times if time is not None]
        # Where one file's age is not known, the age of the whole is not.
        return Usage(
            sum(int(info.get("size") or 0) for info in found.values()),
            max(known) if len(known) == len(times) else None,
        )

    def remove(self, path: str) -> None:
        with failures(f"object store {self.url}"):
            self._remove(f"{self.root}/{path}")

    def _remove(self, base: str) -> None:
        # Without its manifest the object is gone at once, whatever happens to the rest.
        if self.fs.exists(f"{base}/{MANIFEST}"):
            self.fs.rm_file(f"{base}/{MANIFEST}")
        self.fs.rm(base, recursive=True)

    def _modified(self, name: str, info: dict[str, Any]) -> float | None:
        value = next((info[key] for key in ("mtime", "LastModified", "last_modified") if info.get(key)), None)
        if value is None:
            try:
                value = self.fs.modified(name)
            except NotImplementedError:
                return None
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        return float(value) if isinstance(value, int | float) else None
