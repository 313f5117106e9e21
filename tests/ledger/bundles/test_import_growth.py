"""What an import does grows as its bundle does: counted in calls and queries, not in seconds."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from ledger import Entry, Ledger
from ledger.bundles.format import BundleManifest
from ledger.bundles.import_bundle import import_bundle
from ledger.bundles.read import Bundle
from ledger.history.entries import root_entry
from ledger.history.graph import check_histories, check_history, first_parent_history
from ledger.objects.manifest import FileInfo
from seqedit.adapters.adapter import Adapter
from tests.ledger.helpers import MODEL, TIME, build_adapter


def bundle_of(count: int, folder: Path, *, merges: bool = False) -> Path:
    """A bundle of ``count`` batches; with ``merges`` every second one is a branch of its own, merged by the next."""
    entries = [root_entry(MODEL, author="", time=TIME, message="base model")]
    parts: dict[str, bytes] = {}
    main = entries[0]
    for number in range(count):
        adapter = build_adapter(number)
        if merges and number % 2:
            side = entries[-1]
            entry = edit(adapter, main, parents=(main.id, side.id))
            main = entry
        else:
            entry = edit(adapter, main)
            main = main if merges else entry
        entries.append(entry)
        adapter.save_pretrained(folder / adapter.digest)
        parts |= {f"objects/{adapter.digest}/{p.name}": p.read_bytes() for p in (folder / adapter.digest).iterdir()}
        parts[f"scores/{entry.id}.json"] = json.dumps({"counterfact": {"ES": 1.0}}).encode()
    parts |= {f"entries/{entry.id}.json": entry.content.encode() for entry in entries}
    infos = {name: FileInfo(hashlib.sha256(data).hexdigest(), len(data)) for name, data in parts.items()}
    manifest = BundleManifest("history", main.id, MODEL, tuple(entry.id for entry in entries), infos)
    out = folder / "bundle.zip"
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in {**parts, "manifest.json": manifest.to_bytes()}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out


def edit(adapter: Adapter, parent: Entry, parents: tuple[str, ...] | None = None) -> Entry:
    kind = "edit" if parents is None else "merge"
    return Entry(MODEL, kind, TIME, parents or (parent.id,), adapter.digest, (), adapter.method, adapter.requests)


def calls(action: Callable[[], Any]) -> int:
    """How many functions are called, Python's and C's."""
    found = 0

    def count(_: object, kind: str, __: object) -> None:
        nonlocal found
        found += kind in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def whole_tables(action: Callable[[], Any]) -> int:
    """How many queries read a table from end to end."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT") and "FROM entries" in statement and "WHERE" not in statement:
            found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        action()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return len(found)


def check_linear(counts: list[int]) -> None:
    """Counts for n, 2n and 4n: what doubling adds doubles, and no more (a square's would grow fourfold)."""
    first, second, third = counts
    assert third - second < 2.4 * (second - first), counts


@pytest.mark.parametrize("merges", [False, True], ids=["a line", "merges"])
@pytest.mark.parametrize("fresh", [False, True], ids=["into a ledger", "into a new one"])
def test_the_calls_of_an_import_grow_with_its_entries(merges: bool, fresh: bool, tmp_path: Path) -> None:
    counts = []
    for count in (16, 32, 64):
        folder = tmp_path / str(count)
        folder.mkdir()
        file = bundle_of(count, folder, merges=merges)
        if not fresh:
            import_bundle(folder / "ledger", file)
        counts.append(calls(lambda f=folder, b=file: import_bundle(f / "ledger", b)))  # type: ignore[misc]
        with Ledger.open(folder / "ledger") as ledger:
            assert ledger.verify() == []
    check_linear(counts)


def test_the_calls_of_checking_a_bundle_grow_with_its_entries(tmp_path: Path) -> None:
    counts = []
    for count in (32, 64, 128):
        folder = tmp_path / str(count)
        folder.mkdir()
        with Bundle(bundle_of(count, folder, merges=True)) as bundle:
            counts.append(calls(bundle.verify))
    check_linear(counts)


def test_an_import_reads_the_whole_table_of_entries_as_often_for_many_as_for_few(tmp_path: Path) -> None:
    counts = []
    for count in (4, 32):
        folder = tmp_path / str(count)
        folder.mkdir()
        file = bundle_of(count, folder)
        import_bundle(folder / "ledger", file)
        counts.append(whole_tables(lambda f=folder, b=file: import_bundle(f / "ledger", b)))  # type: ignore[misc]
    assert counts[0] == counts[1] > 0


def test_all_histories_are_checked_as_each_by_itself(tmp_path: Path) -> None:
    root = root_entry(MODEL, author="", time=TIME, message="")
    one, two = edit(build_adapter(1), root), edit(build_adapter(2), root)
    good = Entry(MODEL, "revert", TIME, (one.id,), None, (one.id,))
    elsewhere = Entry(MODEL, "revert", TIME, (two.id,), None, (one.id,))  # its target is on another branch
    nodes = {entry.id: entry for entry in (root, one, two, good, elsewhere)}
    assert [identifier for identifier, _ in check_histories(nodes)] == [elsewhere.id]
    for tip in nodes:
        alone = check_history(first_parent_history(nodes, tip))
        assert alone == [found for found in check_histories(nodes) if found[0] == tip == elsewhere.id]
