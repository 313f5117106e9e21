"""The list of an object's files with their digests, by which one flipped byte is found and its file named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ledger.names import check_digest, check_file_name
from seqedit.errors import InputError

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileInfo:
    """What a file must be.

    Attributes:
        sha256: Digest of its bytes, hex.
        size: Its length in bytes.
    """

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The files of one object.

    Attributes:
        digest: The adapter's digest, which names the object.
        files: File name -> what it must be; the manifest file itself is not among them.
    """

    digest: str
    files: Mapping[str, FileInfo]

    def __post_init__(self) -> None:
        check_digest(self.digest)
        for name, info in self.files.items():
            if check_file_name(name) == MANIFEST:
                raise InputError(f"an object's own file cannot be called {MANIFEST}")
            check_digest(info.sha256)
            if type(info.size) is not int or info.size < 0:
                raise InputError(f"file '{name}': size {info.size!r} is not a length")

    def to_bytes(self) -> bytes:
        """The manifest file; equal manifests give equal bytes."""
        files = {name: {"sha256": info.sha256, "size": info.size} for name, info in self.files.items()}
        return (json.dumps({"digest": self.digest, "files": files}, sort_keys=True, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest file.

        Raises:
            InputError: it is malformed, or holds a name that is not a plain file name.
        """
        try:
            value: Any = json.loads(data)
            files = {name: FileInfo(**info) for name, info in value["files"].items()}
            return cls(value["digest"], files)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"malformed {MANIFEST} ({type(error).__name__}: {error})") from error

    @classmethod
    def of_directory(cls, digest: str, directory: Path) -> Manifest:
        """The manifest of the files in a local directory.

        Raises:
            InputError: it holds something that is not a plain file.
        """
        files = {}
        for path in sorted(directory.iterdir()):
            if path.is_symlink() or not path.is_file():
                raise InputError(f"{path} is not a plain file; an object holds nothing else")
            with path.open("rb") as stream:
                files[path.name] = hash_stream(stream)
        return cls(digest, files)


def hash_stream(stream: BinaryIO) -> FileInfo:
    """Digest and length of everything left in a stream."""
    digest = hashlib.sha256()
    size = 0
    # One buffer for all: making a new one for each piece costs a third of the time.
    buffer = memoryview(bytearray(_CHUNK))
    while length := stream.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(buffer[:length])
        size += length
    return FileInfo(digest.hexdigest(), size)
