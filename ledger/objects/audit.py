"""Comparing an object's files with what they must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ledger.objects.manifest import MANIFEST, Manifest, hash_stream
from ledger.objects.objects import ObjectStore
from ledger.problems import Code, Problem
from seqedit.errors import EnvironmentFailure, InputError


def audit_object(store: ObjectStore, expected: Manifest, *, deep: bool = True) -> list[Problem]:
    """Compare one object with its manifest, file by file.

    Args:
        store: Where the object lies.
        expected: What it must be.
        deep: Read and hash the data; else only presence and sizes are looked at.

    Returns:
        What is wrong, one problem per file; a missing or swapped object is one problem.
    """
    path = store.path(expected.digest)
    shown = f"objects/{path}"
    found = store.children(path)
    if not found:
        return [Problem(Code.MISSING_OBJECT, shown, "the object is not in the store")]
    other = _foreign(store, expected)
    if other is not None:
        return [Problem(Code.SWAPPED_OBJECT, shown, f"here lies object {other[:12]}, whole, under another's name")]
    return list(_files(store, expected, found, shown, deep))


def _files(
    store: ObjectStore, expected: Manifest, found: Mapping[str, tuple[str, int]], shown: str, deep: bool
) -> Iterator[Problem]:
    path = store.path(expected.digest)
    sizes = {name: info.size for name, info in expected.files.items()} | {MANIFEST: len(expected.to_bytes())}
    for name, size in sizes.items():
        where = f"{shown}/{name}"
        if name not in found:
            yield Problem(Code.MISSING_FILE, where, "the file is missing")
        elif found[name][0] != "file":
            yield Problem(Code.DAMAGED_FILE, where, "this is a link or directory, not a plain file")
        elif found[name][1] != size:
            yield Problem(Code.DAMAGED_FILE, where, f"the file has {found[name][1]} bytes instead of {size}")
        elif name == MANIFEST or deep:
            try:
                with store.open(f"{path}/{name}") as stream:
                    if name == MANIFEST:
                        same = stream.read(size + 1) == expected.to_bytes()
                    else:
                        same = hash_stream(stream) == expected.files[name]
            except EnvironmentFailure:
                raise  # the store cannot be reached, which says nothing about the file
            except OSError as error:
                yield Problem(Code.DAMAGED_FILE, where, f"the file cannot be read ({error})")
                continue
            if not same:
                yield Problem(Code.DAMAGED_FILE, where, "the file's bytes are not those that were stored")
    for name in sorted(set(found) - set(sizes)):
        yield Problem(Code.EXTRA_FILE, f"{shown}/{name}", "the object has no such file")


def _foreign(store: ObjectStore, expected: Manifest) -> str | None:
    """Digest of the other, whole object that lies at this one's place, or None."""
    try:
        with store.open(f"{store.path(expected.digest)}/{MANIFEST}") as stream:
            manifest = Manifest.from_bytes(stream.read())
    except (OSError, InputError):
        return None
    if manifest.digest == expected.digest or manifest.files == expected.files:
        return None  # with the right files this is the right object, and a flipped bit hit the manifest's digest
    found = store.children(store.path(expected.digest))
    whole = all(name in found and found[name][1] == info.size for name, info in manifest.files.items())
    return manifest.digest if whole else None


def intact(store: ObjectStore, digest: str) -> Manifest | None:
    """The manifest of an object whose files are all there, byte for byte, or None."""
    try:
        manifest = store.manifest(digest)
    except InputError:
        return None
    return None if manifest is None or audit_object(store, manifest) else manifest
