from __future__ import annotations

import contextlib
import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.names import is_digest, is_file_name
from ledger.objects.local import LocalStore, open_store
from ledger.objects.manifest import MANIFEST, FileInfo, Manifest
from ledger.objects.objects import ObjectStore
from seqedit.adapters.adapter import Adapter
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError
from tests.ledger.helpers import build_adapter

DIGEST = "ab" * 32
HOSTILE = [
    "..",
    "../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "",
    ".",
    ".hidden",
    "a\0b",
    "x\n",
    "C:x",
    "~root",
    "a" * 129,
    "naïve",
    "ab" * 31 + "/.",
]


def files_below(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def write_text(text: str = "content"):
    def write(directory: Path) -> None:
        directory.mkdir()
        (directory / "data.txt").write_text(text)

    return write


def fetch(store: ObjectStore, digest: str) -> list[str]:
    with store.directory(digest) as directory:
        return os.listdir(directory)


@pytest.fixture(params=["local", "file-url", "memory"])
def store(request, tmp_path):
    if request.param == "local":
        yield open_store(str(tmp_path / "objects"))
    elif request.param == "file-url":
        yield open_store(f"file://{tmp_path}/objects")
    else:
        yield open_store("memory://objects-of-a-test")
        memory = fsspec.filesystem("memory")
        if memory.exists("/objects-of-a-test"):
            memory.rm("/objects-of-a-test", recursive=True)


def test_an_adapter_comes_back_as_it_was_put(store):
    adapter = build_adapter(1)
    manifest = store.put(adapter.digest, adapter.save_pretrained)
    assert store.manifest(adapter.digest) == manifest
    with store.directory(adapter.digest) as directory:
        assert Adapter.from_pretrained(directory).digest == adapter.digest


def test_an_object_that_is_there_is_not_written_again(store):
    store.put(DIGEST, write_text())

    def never(directory: Path) -> None:
        raise AssertionError("written twice")

    store.put(DIGEST, never)


def test_a_writer_that_fails_leaves_nothing(store):
    def fail(directory: Path) -> None:
        write_text()(directory)
        raise OSError("disk full")

    with pytest.raises(EnvironmentFailure, match="disk full"):
        store.put(DIGEST, fail)
    assert store.manifest(DIGEST) is None
    assert list(store.objects()) == []
    assert store.children("tmp") == {}


def test_a_missing_object_is_named(store):
    store.put(DIGEST, write_text())
    with pytest.raises(CheckFailed, match="cdcdcdcdcdcd is missing"), store.directory("cd" * 32):
        pass


def test_putting_again_heals_a_damaged_object(tmp_path):
    store = LocalStore(tmp_path)
    store.put(DIGEST, write_text())
    path = tmp_path / store.path(DIGEST)
    (path / "data.txt").write_text("changed")
    (path / "extra").write_text("x")
    store.put(DIGEST, write_text())
    assert (path / "data.txt").read_text() == "content"
    assert sorted(p.name for p in path.iterdir()) == ["data.txt", MANIFEST]
    assert store.children("tmp") == {}


def test_equal_adapters_make_equal_bytes_in_every_store(tmp_path):
    adapter = build_adapter(3)
    for name in ("one", "two"):
        LocalStore(tmp_path / name).put(adapter.digest, adapter.save_pretrained)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


def test_opening_a_store_creates_nothing(tmp_path):
    store = open_store(str(tmp_path / "objects"))
    assert list(store.objects()) == []
    assert store.manifest(DIGEST) is None
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_protocol_is_an_input_error():
    with pytest.raises(InputError, match="nonsense"):
        open_store("nonsense://x")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_digests_reach_no_path(store, name):
    for call in (store.path, store.manifest, lambda d: store.put(d, write_text()), lambda d: fetch(store, d)):
        with pytest.raises(InputError, match="not a digest"):
            call(name)


@pytest.mark.parametrize("name", [*HOSTILE, MANIFEST])
def test_hostile_file_names_are_in_no_manifest(name):
    with pytest.raises(InputError):
        Manifest(DIGEST, {name: FileInfo(DIGEST, 1)})


@given(st.text(max_size=80))
def test_a_name_that_passes_stays_in_its_directory(text):
    if is_file_name(text) or is_digest(text):
        assert os.path.dirname(text) == ""
        assert os.path.normpath(os.path.join("/store", text)) == f"/store/{text}"
        assert text.isascii()
        assert text.isprintable()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_an_input_error(data):
    with contextlib.suppress(InputError):
        assert isinstance(Manifest.from_bytes(data), Manifest)


def test_links_in_the_store_are_not_written_through(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for link in ("ab", "tmp"):
        root = tmp_path / f"store-{link}"
        root.mkdir()
        (root / link).symlink_to(outside)
        with pytest.raises(EnvironmentFailure, match="symbolic link"):
            LocalStore(root).put(DIGEST, write_text())
    assert list(outside.iterdir()) == []


def test_an_adapter_directory_with_a_link_is_no_object(tmp_path):
    def write(directory: Path) -> None:
        directory.mkdir()
        (directory / "data").symlink_to("/etc/hostname")

    with pytest.raises(InputError, match="not a plain file"):
        LocalStore(tmp_path).put(DIGEST, write)


def test_pickle_is_never_loaded(tmp_path):
    """A payload that would make a file if it were unpickled."""
    marker = tmp_path / "marker"
    payload = f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()
    adapter = build_adapter(1)
    store = LocalStore(tmp_path / "objects")
    store.put(adapter.digest, adapter.save_pretrained)
    with store.directory(adapter.digest) as directory:
        for name in ("adapter_model.bin", "adapter_model.pt", "seqedit_values.bin"):
            (directory / name).write_bytes(payload)
        (directory / "adapter_model.safetensors").write_bytes(payload)
        with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
            Adapter.from_pretrained(directory)
    assert not marker.exists()
