"""Objects on any fsspec file system."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from ledger.audit import intact
from ledger.errors import failures
from ledger.manifest import MANIFEST, Manifest
from ledger.objects import Kind, ObjectStore, Writer
from seqedit.errors import CheckFailed


class RemoteStore(ObjectStore):
    """Objects on any fsspec file system. The manifest, written last, makes an object exist.

    Args:
        url: fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, self.root = fsspec.core.url_to_fs(url)

    def put(self, digest: str, write: Writer) -> Manifest:
        base = f"{self.root}/{self.path(digest)}"
        with failures(f"object store {self.url}"), tempfile.TemporaryDirectory() as scratch:
            present = intact(self, digest)
            if present is not None:
                return present
            directory = Path(scratch) / "new"
            write(directory)
            manifest = Manifest.of_directory(digest, directory)
            if self.fs.exists(base):
                # Without its manifest the damaged object is gone at once, whatever happens to the rest.
                if self.fs.exists(f"{base}/{MANIFEST}"):
                    self.fs.rm_file(f"{base}/{MANIFEST}")
                self.fs.rm(base, recursive=True)
            self.fs.makedirs(base, exist_ok=True)
            for name in manifest.files:
                self.fs.put_file(str(directory / name), f"{base}/{name}")
            self.fs.pipe_file(f"{base}/{MANIFEST}", manifest.to_bytes())
        return manifest

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
        return cast(BinaryIO, self.fs.open(f"{self.root}/{path}", "rb"))
