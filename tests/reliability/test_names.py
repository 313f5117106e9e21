"""Row 10: no name leads out of the store."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.bundles.import_bundle import import_bundle
from ledger.bundles.write import plan_bundle, write_bundle
from ledger.objects.local import LocalStore
from ledger.objects.manifest import FileInfo, Manifest
from ledger.upkeep.gc import collect
from seqedit.errors import SeqeditError
from tests.ledger.helpers import MODEL, TIME, build_adapter

CORPUS = [
    "..", "../x", "../../x", "/etc/passwd", "//x", "a/../../x", "a/b", "a\\..\\b", "\\\\host\\x", "", ".", "./x",
    ".hidden", "a\0b", "\0", "x\n", "\n", "C:x", "C:\\x", "~", "~root/x", "a" * 300, "a" * 5000, "naïve", "\u202e/x",
    "％2e％2e", "%2e%2e/x", "..%2fx", "ab" * 31 + "/.", "../" * 40 + "tmp/x", "objects/../../x", "CON", "tmp",
    "tmp/../x",
    "manifest.json/../../x", "ledger.db", "../ledger.db", "-rf", "$(touch x)", "`x`", "*", "?", "\ud800",
]  # fmt: skip
DIGEST = "ab" * 32
TEXTS = st.one_of(
    st.sampled_from(CORPUS),
    st.text(max_size=80),
    st.lists(st.sampled_from(["..", "/", ".", "\\", "\0", "a", "%2e", "~", "tmp", DIGEST]), max_size=6).map("".join),
)


def _write(directory: Path) -> None:
    directory.mkdir()
    (directory / "data.txt").write_text("content")


def ways(place: Path, name: str) -> dict[str, Callable[[], object]]:
    """Every way in which a name from outside could become part of a path."""
    store = LocalStore(place / "objects")

    def through(act: Callable[[Ledger], object]) -> Callable[[], object]:
        def run() -> None:
            with Ledger.open(place) as ledger:
                act(ledger)

        return run

    return {
        "digest to write": lambda: store.put(name, _write),
        "digest to read": lambda: store.directory(name).__enter__(),
        "file of an object": lambda: Manifest(DIGEST, {name: FileInfo(DIGEST, 1)}),
        "branch": through(lambda x: x.start_branch(name)),
        "branch to switch to": through(lambda x: x.switch(name)),
        "revision": through(lambda x: x.entry(name)),
        "adapter": through(lambda x: x.adapter(name)),
        "kind of scores": through(lambda x: x.add_scores("HEAD", name, {"ES": 1})),
        "key of scores": through(lambda x: x.add_scores("HEAD", "counterfact", {name: 1})),
        "member of a bundle": lambda: import_bundle(place, _bundle_with(place, name)),
    }


def _bundle_with(place: Path, name: str) -> Path:
    """A bundle with one member more; the zip format itself takes any name."""
    path = place.parent / "inside" / "bundle"
    whole = place.parent / "inside" / "whole"
    if not whole.exists():
        with Ledger.open(place) as ledger:
            write_bundle(ledger, plan_bundle(ledger), whole)
    path.write_bytes(whole.read_bytes())
    with contextlib.suppress(UnicodeEncodeError, ValueError), zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name  # the constructor would cut it at a NUL
        archive.writestr(info, b"escaped")
    return path


def outside(root: Path) -> dict[str, bytes | None]:
    """Everything below a directory but the ledger and the place for bundles."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if path.relative_to(root).parts[0] not in ("ledger", "inside")
    }


def allowed(place: Path) -> set[str]:
    """What may lie in the ledger's directory."""
    return {path.name for path in place.iterdir()} - {"ledger.db", "ledger.db-wal", "ledger.db-shm", "objects"}


def _prepare(root: Path) -> Path:
    place = root / "ledger"
    (root / "inside").mkdir()
    (root / "outside").mkdir()
    (root / "outside" / "file").write_text("untouched")
    with Ledger.create(place, MODEL, time=TIME) as ledger:
        ledger.append(build_adapter(1), time=TIME)
    return place


def _try(root: Path, place: Path, name: str) -> int:
    before, cwd = outside(root), sorted(os.listdir())
    tried = 0
    for way, act in ways(place, name).items():
        with contextlib.suppress(SeqeditError, UnicodeEncodeError):  # a lone surrogate is no text at all
            act()
        tried += 1
        assert outside(root) == before, (way, name)
        assert allowed(place) == set(), (way, name)
    assert sorted(os.listdir()) == cwd, name
    objects = [path.name for path in (place / "objects").iterdir()]
    assert all(len(shard) == 2 or shard == "tmp" for shard in objects), (name, objects)
    return tried


@pytest.mark.promise(10)
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_no_name_of_the_corpus_leads_out_of_the_store(memory_path, figure, every):
    place = _prepare(memory_path)
    tried = sum(_try(memory_path, place, name) for name in CORPUS[::every])
    with Ledger.open(place) as ledger:
        assert [p for p in ledger.verify() if p.damage] == []
    figure(f"corpus: {tried} uses of {len(CORPUS[::every])} names, 0 writes outside")


@pytest.mark.promise(10)
@pytest.mark.parametrize("examples", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_no_name_that_hypothesis_makes_leads_out_of_the_store(memory_path, figure, examples):
    place = _prepare(memory_path)
    tried = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(TEXTS)
    def search(name: str) -> None:
        nonlocal tried
        tried += _try(memory_path, place, name)

    search()
    figure(f"hypothesis: {tried:,} uses of made-up names, 0 writes outside")


@pytest.mark.parametrize("link", ["tmp", "shard", "object", "file in tmp"])
def test_gc_follows_no_link_out_of_the_store(memory_path, link):
    place = _prepare(memory_path)
    target = memory_path / "outside"
    objects = place / "objects"
    where = {
        "tmp": objects / "tmp",
        "shard": objects / "ab",
        "object": objects / "ab" / DIGEST,
        "file in tmp": objects / "tmp" / "left",
    }[link]
    if link == "tmp":
        (objects / "tmp").rmdir()
    where.parent.mkdir(exist_ok=True)
    where.symlink_to(target)
    before = outside(memory_path)
    with Ledger.open(place) as ledger:
        collect(ledger.database, ledger.store, keep_days=None, grace=0)
        damage = [problem.path for problem in ledger.verify(deep=False) if problem.damage]
        assert set(damage) <= {str(where.relative_to(place)), str(where.parent.relative_to(place))}, "the link itself"
    assert outside(memory_path) == before


def test_a_zip_takes_the_names_that_are_tried():
    """Else the corpus would not test what it seems to."""
    with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        archive.writestr("../../x", b"")
        assert archive.namelist() == ["../../x"]
