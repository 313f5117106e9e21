"""Rows 3 and 4: every flipped byte, truncation, and missing, swapped, renamed or extra object is found and named."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import Code, Ledger
from ledger.upkeep.signing import add_signatures, load_key, new_key, sign
from seqedit.errors import CheckFailed, InputError
from tests.ledger.helpers import MODEL, TIME, build_adapter
from tests.reliability.damaged import dump, flipped, object_of, tables_of

HEADER = 4096
UNHASHED = {"scores", "reflog", "meta", "signatures"}
"""Tables that no digest covers. Their rows stand beside the history and are no part of it."""


@pytest.mark.promise(3)
@pytest.mark.parametrize("every", [61, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dense", [False, True], ids=["low-rank", "dense"])
def test_every_flipped_byte_of_an_object_is_found_and_its_file_named(ledger, place, figure, every, dense):
    entry = ledger.append(build_adapter(1, dense=dense))
    files = sorted(object_of(ledger, place, entry.id).iterdir())
    flips = 0
    for path in files:
        whole = path.read_bytes()
        header = range(0, min(HEADER, len(whole)), every)
        data = random.Random(0).sample(range(len(whole)), min(len(whole), 512 // every))
        for position in sorted({*header, *data, len(whole) - 1}):
            path.write_bytes(flipped(whole, position))
            problems = [(p.code, p.path) for p in ledger.verify()]
            assert problems == [(Code.DAMAGED_FILE, str(path.relative_to(place)))], position
            flips += 1
        path.write_bytes(whole)
    assert ledger.verify() == []
    figure(f"{'dense' if dense else 'low-rank'} adapter: {flips:,} of {flips:,} flips in {len(files)} files found")


@pytest.mark.promise(3)
@pytest.mark.parametrize("every", [67, pytest.param(1, marks=pytest.mark.slow)])
def test_every_truncation_of_an_object_is_found_without_reading_data(ledger, place, figure, every):
    entry = ledger.append(build_adapter(1))
    cuts = 0
    for path in sorted(object_of(ledger, place, entry.id).iterdir()):
        whole = path.read_bytes()
        for length in range(0, len(whole), every):
            path.write_bytes(whole[:length])
            problems = [(p.code, p.path) for p in ledger.verify(deep=False)]
            assert problems == [(Code.DAMAGED_FILE, str(path.relative_to(place)))], length
            cuts += 1
        path.write_bytes(whole)
    figure(f"{cuts:,} of {cuts:,} truncations found")


def _positions(data: bytes, every: int) -> Iterator[int]:
    """Bytes of every page: its header and first cell pointers, and a sample of the rest."""
    size = int.from_bytes(data[16:18], "big")
    chance = random.Random(0)
    for page in range(0, len(data), size):
        yield from range(page, page + (100 if page == 0 else 24), every)
        yield from (page + chance.randrange(24, size) for _ in range(160 // every))


@pytest.mark.promise(3)
@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_byte_of_the_database_is_found_or_changes_nothing_that_is_hashed(
    filled, place, tmp_path, figure, every
):
    new_key(tmp_path / "key")
    with filled.database.write() as connection:
        add_signatures(connection, [sign(filled.head(), load_key(tmp_path / "key"), TIME)])
    filled.add_scores("HEAD", "counterfact", {"ES": 87.5})
    filled.close()
    file = place / "ledger.db"
    whole, before = file.read_bytes(), dump(file, tables_of(file))
    outcomes: Counter[str] = Counter()
    for position in sorted(set(_positions(whole, every))):
        file.write_bytes(flipped(whole, position))
        outcome = _outcome(place, before)
        assert outcome in ("found", "harmless", *UNHASHED), f"byte {position} changed {outcome} unnoticed"
        outcomes[outcome] += 1
        for leftover in place.glob("ledger.db-*"):
            leftover.unlink()
    unhashed = sum(outcomes[table] for table in UNHASHED)
    figure(
        f"database: {sum(outcomes.values()):,} flips over all pages: {outcomes['found']:,} found, "
        f"{outcomes['harmless']:,} in unused bytes (every row reads as before), {unhashed:,} in values that no digest "
        f"covers ({', '.join(f'{table} {outcomes[table]}' for table in sorted(UNHASHED) if outcomes[table])})"
    )


def _outcome(place: Path, before: dict[str, list[str]]) -> str:
    """ "found", "harmless", or the tables whose rows changed unnoticed."""
    try:
        with Ledger.open(place, MODEL) as ledger:
            problems = [problem for problem in ledger.verify() if problem.damage]
            assert all(p.code != Code.DAMAGED_DATABASE or "ledger.db" in p.path for p in problems)
    except (CheckFailed, InputError):
        return "found"
    if problems:
        return "found"
    try:
        after = dump(place / "ledger.db", list(before))
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return "what cannot be read"
    return ",".join(table for table in before if before[table] != after.get(table)) or "harmless"


@pytest.mark.promise(3)
@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_truncated_database_is_found(filled, place, figure, every):
    filled.close()
    file = place / "ledger.db"
    whole, before = file.read_bytes(), dump(file, tables_of(file))
    outcomes: Counter[str] = Counter()
    for length in range(1, len(whole), 1021 * every):
        file.write_bytes(whole[:length])
        outcome = _outcome(place, before)
        # The last page may hold nothing: then its end can be missed, and no row with it.
        assert outcome == "found" or (outcome == "harmless" and len(whole) - length < 4096), length
        outcomes[outcome] += 1
    figure(
        f"database: {outcomes.total()} truncations: {outcomes['found']} found, {outcomes['harmless']} of the unused "
        "end of the last page (every row reads as before)"
    )


ALTERATIONS = {
    "missing": Code.MISSING_OBJECT,
    "swapped": Code.SWAPPED_OBJECT,
    "renamed": Code.RENAMED_OBJECT,
    "extra": Code.ORPHAN_OBJECT,
    "stray": Code.EXTRA_FILE,
    "file missing": Code.MISSING_FILE,
    "file extra": Code.EXTRA_FILE,
}


def _alter(kind: str, path: Path, other: Path) -> list[Path]:
    """Alter a store; the paths that the report must name."""
    objects = path.parent.parent
    if kind == "missing":
        shutil.rmtree(path)
        return [path]
    if kind == "swapped":
        path.rename(objects / "x")
        other.rename(path)
        (objects / "x").rename(other)
        return [path, other]
    if kind == "renamed":
        new = objects / "00" / ("0" * 64)
        new.parent.mkdir(exist_ok=True)
        path.rename(new)
        return [new]
    if kind == "extra":
        adapter = build_adapter(99)
        new = objects / adapter.digest[:2] / adapter.digest
        adapter.save_pretrained(new)
        manifest = (path / "manifest.json").read_text().replace(path.name, adapter.digest)
        (new / "manifest.json").write_text(manifest)
        return [new]
    if kind == "stray":
        (objects / "stray").write_text("x")
        return [objects / "stray"]
    if kind == "file missing":
        (path / "README.md").unlink()
        return [path / "README.md"]
    (path / "adapter_model.bin").write_bytes(b"x")
    return [path / "adapter_model.bin"]


@pytest.mark.promise(4)
@pytest.mark.parametrize("entries", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_each_alteration_of_the_store_has_its_code_and_names_the_path(ledger, place, tmp_path, figure, entries):
    for seed in range(entries):
        ledger.append(build_adapter(seed), time=TIME)
    pristine = tmp_path / "pristine"
    shutil.copytree(place / "objects", pristine)
    ids = [entry.id for entry in ledger.log() if entry.adapter]
    found = 0
    for number, entry in enumerate(ids):
        for kind, code in ALTERATIONS.items():
            path, other = object_of(ledger, place, entry), object_of(ledger, place, ids[number - 1])
            named = _alter(kind, path, other)
            for deep in (False, True):
                problems = {(p.code, p.path) for p in ledger.verify(deep=deep)}
                assert {(code, str(p.relative_to(place))) for p in named} <= problems, (kind, problems)
                # Only a renamed object is also missing somewhere.
                assert {c for c, _ in problems} - {code} <= ({Code.MISSING_OBJECT} if kind == "renamed" else set())
            found += 1
            shutil.rmtree(place / "objects")
            shutil.copytree(pristine, place / "objects")
    assert ledger.verify() == []
    assert len(set(ALTERATIONS.values())) == len(ALTERATIONS) - 1, "a stray file and an extra file share a code"
    figure(f"{found} of {found} alterations found, shallow and deep: {', '.join(ALTERATIONS)}")
