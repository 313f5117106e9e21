"""Content-addressed store of adapter directories: ``<2 hex>/<digest>/`` with the adapter's files and a manifest.

A local object is an adapter directory that stock PEFT loads from where it lies. An object exists only once it is
complete: locally its directory is renamed into place, elsewhere the manifest is written last.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from ledger.errors import failures
from ledger.objects.audit import intact
from ledger.objects.manifest import MANIFEST, Manifest
from ledger.objects.objects import MARKER, TEMPORARY, Kind, ObjectStore, Usage, Writer
from ledger.url_secrets import without_password, without_secrets
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError


class LocalStore(ObjectStore):
    """Objects in a local directory.

    Args:
        root: The directory; made by the first write.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.url = str(root)
        self.threads = min(4, os.cpu_count() or 1)  # each holds an object in memory

    def put(self, digest: str, write: Writer) -> Manifest:
        target = self.root / self.path(digest)
        with failures(f"object store {self.root}"):
            present = intact(self, digest)
            if present is not None:
                # It may be the orphan of a writer that died before the rename had reached the disk.
                self._sync_path(target)
                # Young again, so that gc leaves it to this writer. Another user's object cannot be touched; were it
                # collected, the writer would be told.
                with suppress(PermissionError):
                    os.utime(target)
                return present
            scratch = self._scratch(digest[:12])
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

    def _scratch(self, prefix: str) -> Path:
        # In the store itself, because only within one file system is a rename atomic.
        (self.root / TEMPORARY).mkdir(parents=True, exist_ok=True)
        self._check_inside(self.root / TEMPORARY)
        return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=self.root / TEMPORARY))

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
        if path != self.root and path.is_symlink():
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

    def mark(self, data: bytes) -> None:
        # Not in the directory for temporary files: until there is a marker, the store holds nothing but it.
        new = self.root / f"{MARKER}.{secrets.token_hex(4)}.new"
        with failures(f"object store {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                new.write_bytes(data)
                _sync(new)
                os.replace(new, self.root / MARKER)
            finally:
                new.unlink(missing_ok=True)
            for directory in (self.root, self.root.absolute().parent):
                _sync(directory)

    def write(self, path: str, data: bytes, *, durable: bool = False) -> None:
        target = self.root / path
        with failures(f"object store {self.root}"):
            self._check_inside(target.parent)
            scratch = self._scratch("written")
            try:
                (scratch / target.name).write_bytes(data)
                if durable:
                    _sync(scratch / target.name)
                target.parent.mkdir(exist_ok=True)
                os.replace(scratch / target.name, target)
                if durable:
                    self._sync_path(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def usage(self, path: str) -> Usage | None:
        try:
            found = [(self.root / path).lstat()]
        except (FileNotFoundError, NotADirectoryError):
            return None
        links = stat.S_ISLNK(found[0].st_mode)  # os.walk follows none but its first
        for directory, directories, names in () if links else os.walk(self.root / path):
            for name in (*directories, *names):
                with suppress(FileNotFoundError):  # a writer at work
                    found.append(Path(directory, name).lstat())
        size = sum(item.st_size for item in found if stat.S_ISREG(item.st_mode))
        return Usage(size, max(item.st_mtime for item in found))

    def remove(self, path: str) -> None:
        target = self.root / path
        with failures(f"object store {self.root}"):
            self._check_inside(target.parent)
            # Renamed away first: killed half way, this leaves a temporary file and not half an object.
            scratch = self._scratch("removed")
            os.rename(target, scratch / target.name)
            shutil.rmtree(scratch)


def open_store(url: str) -> ObjectStore:
    """The store at a directory or fsspec URL; nothing is created.

    Raises:
        InputError: no file system is known for the URL.
    """
    if os.sep == "/" and ":" not in url and not url.startswith("~"):
        # What fsspec would make of it, whose import takes a tenth of a second.
        path = url if url.startswith("/") else f"{os.getcwd()}/{'' if url == '.' else url.removeprefix('./')}"
        return LocalStore(path.rstrip("/") or "/")
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    from ledger.objects.remote import RemoteStore

    protocol, _ = fsspec.core.split_protocol(url.rpartition("::")[2])
    try:
        kind = LocalFileSystem if protocol is None else fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        raise InputError(without_secrets(f"object store '{without_password(url)}': {error}", url)) from None
    if kind is LocalFileSystem and "::" not in url:
        return LocalStore(LocalFileSystem._strip_protocol(url))
    # It connects when it is used: a log can be read without the store.
    return RemoteStore(url)


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
