"""Content-addressed store of adapter directories: ``<2 hex>/<digest>/`` with the adapter's files and a manifest.

A local object is an adapter directory that stock PEFT loads from where it lies. An object exists only once it is
complete: locally its directory is renamed into place, elsewhere the manifest is written last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ledger.manifest import MANIFEST, Manifest
from ledger.names import check_digest
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError

TEMPORARY = "tmp"
Kind = Literal["file", "directory", "other"]
Writer = Callable[[Path], object]


class ObjectStore(ABC):
    """Adapter directories by digest.

    Attributes:
        url: Where it is, as given.
    """

    url: str

    @abstractmethod
    def put(self, digest: str, write: Writer) -> Manifest:
        """Make an object durable, unless it is there intact; a damaged one is replaced.

        Args:
            digest: The adapter's digest.
            write: Writes the adapter's files into the directory it is given.

        Returns:
            Manifest of the object as it lies in the store.

        Raises:
            InputError: the digest is none, or ``write`` left something else than plain files.
            EnvironmentFailure: the disk or network failed; nothing is left of the object.
        """

    @abstractmethod
    def directory(self, digest: str) -> AbstractContextManager[Path]:
        """A local directory with the object's files, valid inside the context.

        Raises:
            CheckFailed: the object is missing.
        """

    @abstractmethod
    def children(self, path: str) -> dict[str, tuple[Kind, int]]:
        """Name -> (kind, size) of what lies in a directory of the store; a missing directory is empty."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file of the store for reading."""

    @staticmethod
    def path(digest: str) -> str:
        """Path of an object within the store."""
        return f"{check_digest(digest)[:2]}/{digest}"

    def manifest(self, digest: str) -> Manifest | None:
        """The object's own manifest, or None where the object does not exist.

        Raises:
            InputError: the manifest is malformed or that of another object.
        """
        try:
            with self.open(f"{self.path(digest)}/{MANIFEST}") as stream:
                manifest = Manifest.from_bytes(stream.read())
        except (FileNotFoundError, NotADirectoryError):
            return None
        if manifest.digest != digest:
            raise InputError(f"the manifest of object {digest[:12]} is that of {manifest.digest[:12]}")
        return manifest

    def objects(self) -> Iterator[str]:
        """Paths, relative to the store, of everything two levels down, and of files where none belong."""
        for shard, (kind, _) in sorted(self.children("").items()):
            if kind != "directory":
                yield shard
            elif shard != TEMPORARY:
                for name in sorted(self.children(shard)):
                    yield f"{shard}/{name}"

    def intact(self, digest: str) -> Manifest | None:
        """The manifest of an object whose files are all there, byte for byte, or None."""
        from ledger.audit import audit_object  # the audit reads stores, so it cannot be imported above

        try:
            manifest = self.manifest(digest)
        except InputError:
            return None
        return None if manifest is None or audit_object(self, manifest) else manifest


class LocalStore(ObjectStore):
    """Objects in a local directory.

    Args:
        root: The directory; made by the first write.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.url = str(root)

    def put(self, digest: str, write: Writer) -> Manifest:  # noqa: D102
        target = self.root / self.path(digest)
        present = self.intact(digest)
        if present is not None:
            # It may be the orphan of a writer that died before these had reached the disk.
            _sync_directory(target.parent)
            _sync_directory(self.root)
            return present
        scratch = self._scratch(digest)
        try:
            directory = scratch / "new"
            write(directory)
            manifest = Manifest.of_directory(digest, directory)
            (directory / MANIFEST).write_bytes(manifest.to_bytes())
            for path in directory.iterdir():
                _sync_file(path)
            _sync_directory(directory)
            self._install(directory, target, scratch)
            return self.intact(digest) or manifest
        except OSError as error:
            if isinstance(error, EnvironmentFailure):
                raise
            raise EnvironmentFailure(f"object {digest[:12]} could not be written to {self.root}: {error}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _scratch(self, digest: str) -> Path:
        # In the store itself, because only within one file system is a rename atomic.
        try:
            for directory in (self.root, self.root / TEMPORARY):
                directory.mkdir(parents=True, exist_ok=True)
            self._check_inside(self.root / TEMPORARY)
            return Path(tempfile.mkdtemp(prefix=f"{digest[:12]}-", dir=self.root / TEMPORARY))
        except OSError as error:
            if isinstance(error, EnvironmentFailure):
                raise
            raise EnvironmentFailure(f"the object store {self.root} cannot be written: {error}") from error

    def _install(self, directory: Path, target: Path, scratch: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        self._check_inside(target.parent)
        if os.path.lexists(target):
            os.rename(target, scratch / "damaged")
        try:
            os.rename(directory, target)
        except OSError:
            # Another writer of the same adapter was faster; its object is as good as ours, if it is whole.
            if self.intact(target.name) is None:
                raise
        _sync_directory(target.parent)
        _sync_directory(self.root)

    def _check_inside(self, path: Path) -> None:
        if path.is_symlink():
            raise EnvironmentFailure(f"{path} is a symbolic link; the store does not write through it")

    def directory(self, digest: str) -> AbstractContextManager[Path]:  # noqa: D102
        path = self.root / self.path(digest)
        if not path.is_dir():
            raise CheckFailed(f"object {digest[:12]} is missing from {self.root}; run verify")
        return nullcontext(path)

    def children(self, path: str) -> dict[str, tuple[Kind, int]]:  # noqa: D102
        try:
            with os.scandir(self.root / path) as found:
                return {
                    item.name: (_kind(item), item.stat(follow_symlinks=False).st_size) for item in found
                }
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def open(self, path: str) -> BinaryIO:  # noqa: D102
        return (self.root / path).open("rb")


class RemoteStore(ObjectStore):
    """Objects on any fsspec file system. The manifest, written last, makes an object exist.

    Args:
        url: fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, self.root = fsspec.core.url_to_fs(url)

    def put(self, digest: str, write: Writer) -> Manifest:  # noqa: D102
        base = f"{self.root}/{self.path(digest)}"
        present = self.intact(digest)
        if present is not None:
            return present
        with tempfile.TemporaryDirectory() as scratch:
            directory = Path(scratch) / "new"
            try:
                write(directory)
                manifest = Manifest.of_directory(digest, directory)
                if self.fs.exists(base):
                    if self.fs.exists(f"{base}/{MANIFEST}"):
                        self.fs.rm_file(f"{base}/{MANIFEST}")
                    self.fs.rm(base, recursive=True)
                self.fs.makedirs(base, exist_ok=True)
                for name in manifest.files:
                    self.fs.put_file(str(directory / name), f"{base}/{name}")
                self.fs.pipe_file(f"{base}/{MANIFEST}", manifest.to_bytes())
            except OSError as error:
                raise EnvironmentFailure(f"object {digest[:12]} could not be written to {self.url}: {error}") from error
        return manifest

    @contextmanager
    def directory(self, digest: str) -> Iterator[Path]:  # noqa: D102
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

    def children(self, path: str) -> dict[str, tuple[Kind, int]]:  # noqa: D102
        try:
            found: list[dict[str, Any]] = self.fs.ls(f"{self.root}/{path}".rstrip("/"), detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {
            str(item["name"]).rstrip("/").rsplit("/", 1)[-1]: (
                item["type"] if item["type"] in ("file", "directory") else "other",
                int(item.get("size") or 0),
            )
            for item in found
        }

    def open(self, path: str) -> BinaryIO:  # noqa: D102
        return cast(BinaryIO, self.fs.open(f"{self.root}/{path}", "rb"))


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


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    # A rename is durable only once its directory is.
    _sync_file(path)
