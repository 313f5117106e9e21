"""What every object store offers, wherever it keeps its files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Literal

from ledger.manifest import MANIFEST, Manifest
from ledger.names import check_digest
from seqedit.errors import InputError

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
            EnvironmentFailure: the disk or network failed; the object does not exist then.
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
