"""What every object store offers, wherever it keeps its files."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from ledger.names import check_digest
from ledger.objects.manifest import MANIFEST, Manifest
from seqedit.errors import EnvironmentFailure, InputError

TEMPORARY = "tmp"
SNAPSHOTS = "snapshots"
MARKER = "id"
LEDGERS = "ledgers"
Kind = Literal["file", "directory", "other"]
Writer = Callable[[Path], object]


def is_unfinished_marker(name: str) -> bool:
    """Whether a file is what a killed writer of a marker left."""
    return re.fullmatch(re.escape(MARKER) + r"\.[0-9a-f]{8}\.new", name) is not None


@dataclass(frozen=True)
class Usage:
    """What lies below a path of a store.

    Attributes:
        size: Bytes of all files.
        modified: When the newest of it was written, in seconds since 1970; None where the store does not tell.
    """

    size: int
    modified: float | None


class ObjectStore(ABC):
    """Adapter directories by digest.

    Attributes:
        url: Where it is, as given.
        threads: How many threads may read from it at a time.
    """

    url: str
    threads: int = 1

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

    @abstractmethod
    def mark(self, data: bytes) -> None:
        """Write the file that says whose the store is (`ledger.objects.marker`), and make it durable.

        Raises:
            EnvironmentFailure: the disk or network failed.
        """

    @abstractmethod
    def write(self, path: str, data: bytes, *, durable: bool = False) -> None:
        """Write a file that belongs to no object; unless it is asked to be durable, a power failure may lose it.

        Raises:
            EnvironmentFailure: the disk or network failed, or the path leads through a symbolic link.
        """

    @abstractmethod
    def usage(self, path: str) -> Usage | None:
        """Size and age of what lies at a path of the store, or None where nothing does."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove what lies at a path of the store; an object is gone at once, or is still whole.

        Raises:
            EnvironmentFailure: the disk or network failed, or the path leads through a symbolic link.
        """

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

    def owner(self, path: str) -> str | None:
        """The digest in the manifest of the object at a path, or None where none can be read."""
        try:
            with self.open(f"{path}/{MANIFEST}") as stream:
                return Manifest.from_bytes(stream.read()).digest
        except EnvironmentFailure:
            raise  # the store cannot be reached
        except (OSError, InputError):
            return None

    def objects(self) -> Iterator[str]:
        """Paths, relative to the store, of everything two levels down, and of files where none belong."""
        for shard, (kind, _) in sorted(self.children("").items()):
            if kind != "directory":
                if shard != MARKER and not is_unfinished_marker(shard):
                    yield shard
            elif shard not in (TEMPORARY, SNAPSHOTS, LEDGERS):
                for name in sorted(self.children(shard)):
                    yield f"{shard}/{name}"
