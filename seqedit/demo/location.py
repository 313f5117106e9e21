"""The demo world as files in the user's cache: generated once, from the seed, in seconds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from seqedit.errors import InputError
from seqedit.support.cache import default_cache_dir
from seqedit.support.suggestions import did_you_mean
from seqedit.support.writing import new_directory

DEMO_FILE = "demo:"
"""Before the name of a file of the demo world, e.g. ``demo:counterfact.json``; it is written where it is missing."""


def demo_folder() -> Path:
    """Folder with the demo world's files; written on first use, whole or not at all."""
    from seqedit.demo import DEFAULT_SEED, write_world

    folder = default_cache_dir() / "demo" / _generator_digest()
    if folder.is_dir():
        return folder
    try:
        with new_directory(folder) as directory:
            write_world(directory, DEFAULT_SEED)
    except OSError:
        if not folder.is_dir():  # else another process was faster, with the same content
            raise
    return folder


def demo_file(name: str) -> Path:
    """One file of the demo world, e.g. ``counterfact.json``."""
    return demo_folder() / name


def resolve_demo_file(source: str) -> str:
    """The path of a ``demo:`` file; any other ``source`` as it is.

    Raises:
        InputError: the demo world has no such file.
    """
    if not source.startswith(DEMO_FILE):
        return source
    path = demo_file(source.removeprefix(DEMO_FILE))
    if not path.exists():
        known = sorted(p.relative_to(demo_folder()).as_posix() for p in demo_folder().rglob("*.*"))
        hint = did_you_mean(source.removeprefix(DEMO_FILE), known)
        raise InputError(f"{source}: the demo world has {', '.join(known)}{hint}")
    return str(path)


def _generator_digest() -> str:
    """Digest of the generator's source: other code may write other files, so it gets another folder."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py"), key=lambda path: path.name):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


DEMO_PREFIX = "demo-"
