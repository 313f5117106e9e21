"""Files and directories that appear whole or not at all: the one place where something is replaced."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place, on disk, where the block ends, and is gone where it raises.

    A reader sees the whole of the new file or the one before. The block creates the file that is yielded, so it has
    the rights that the umask leaves.
    """
    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the whole of it or the one before; text is UTF-8."""
    with new_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def new_directory(path: str | Path) -> Iterator[Path]:
    """A directory beside ``path`` that is renamed to it where the block ends and is gone where it raises.

    Raises:
        OSError: there is a directory that is not empty, or a file.
    """
    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    scratch.mkdir()
    try:
        directory = scratch / "new"
        directory.mkdir()
        yield directory
        os.replace(directory, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
