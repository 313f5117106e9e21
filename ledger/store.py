"""Content-addressed store of adapter directories: ``<2 hex>/<digest>/`` with the adapter's files and a manifest.

A local object is an adapter directory that stock PEFT loads from where it lies. An object exists only once it is
complete: locally its directory is renamed into place, elsewhere the manifest is written last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ledger.audit import intact
from ledger.errors import failures
from ledger.manifest import MANIFEST, Manifest
from ledger.objects import TEMPORARY, Kind, ObjectStore, Writer
from ledger.remote_store import RemoteStore
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError


class LocalStore(ObjectStore):
    """Objects in a local directory.

    Args:
        root: The directory; made by the first write.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.url = str(root)

    def put(self, digest: str, write: Writer) -> Manifest:
        target = self.root / self.path(digest)
        with failures(f"object store {self.root}"):
            present = intact(self, digest)
            if present is not None:
                # It may be the orphan of a writer that died before the rename had reached the disk.
                self._sync_path(target)
                return present
            # In the store itself, because only within one file system is a rename atomic.
            (self.root / TEMPORARY).mkdir(parents=True, exist_ok=True)
            self._check_inside(self.root / TEMPORARY)
            scratch = Path(tempfile.mkdtemp(prefix=f"{digest[:12]}-", dir=self.root / TEMPORARY))
            try:
                directory = scratch / "new"
                write(directory)
                manifest = Manifest.of_directory(digest, directory)
                (directory / MANIFEST).write_bytes(manifest.to_bytes())
                for path in (*directory.iterdir(), directory):
                    _sync(path)
                return self._install(directory, target, scratch) or manifest
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _install(self, directory: Path, target: Path, scratch: Path) -> Manifest | None:
        target.parent.mkdir(exist_ok=True)
        self._check_inside(target.parent)
        if os.path.lexists(target):
            os.rename(target, scratch / "damaged")
        other = None
        try:
            os.rename(directory, target)
        except OSError:
            # Another writer of the same adapter was faster; its object is as good as ours, if it is whole.
            other = intact(self, target.name)
            if other is None:
                raise
        self._sync_path(target)
        return other

    def _sync_path(self, target: Path) -> None:
        # Every directory that got a new name: the object's, its shard's and, the first time, the store's own.
        for directory in (target.parent, self.root, self.root.absolute().parent):
            _sync(directory)

    def _check_inside(self, path: Path) -> None:
        if path.is_symlink():
            raise EnvironmentFailure(f"{path} is a symbolic link; the store does not write through it")

    def directory(self, digest: str) -> AbstractContextManager[Path]:
        path = self.root / self.path(digest)
        if not path.is_dir():
            raise CheckFailed(f"object {digest[:12]} is missing from {self.root}; run verify")
        return nullcontext(path)

    def children(self, path: str) -> dict[str, tuple[Kind, int]]:
        try:
            with os.scandir(self.root / path) as found:
                return {item.name: (_kind(item), item.stat(follow_symlinks=False).st_size) for item in found}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")


def open_store(url: str) -> ObjectStore:
    """The store at a directory or fsspec URL; nothing is created.

    Raises:
        InputError: no file system is known for the URL.
    """
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(f"object store '{url}': {error}") from error
    return LocalStore(root) if isinstance(fs, LocalFileSystem) else RemoteStore(url)


def _kind(item: os.DirEntry[str]) -> Kind:
    if item.is_symlink():
        return "other"
    return "directory" if item.is_dir() else "file" if item.is_file() else "other"


def _sync(path: Path) -> None:
    # Directories too: a rename is durable only once its directory is.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
