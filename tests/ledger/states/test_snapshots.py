"""Snapshots are caches: with them, without them, and whatever is done to them, states are the same to the bit."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ledger import Code, Ledger
from ledger.states.snapshots import SnapshotPolicy, keys
from ledger.upkeep import gc
from seqedit.adapters.composition import compose
from seqedit.errors import EnvironmentFailure, InputError
from tests.ledger.database.databases import create
from tests.ledger.helpers import MODEL, build_adapter, build_base

SMALL = 3  # adapters in a group, so that small histories have several


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    use_small_groups(monkeypatch)


def use_small_groups(monkeypatch):
    names = ("seqedit.adapters.composition", "ledger.states.snapshots", "ledger.states.proof")
    # All are imported before any is changed, or the first import of one would keep another's small group for good.
    for module in [importlib.import_module(name) for name in names]:
        monkeypatch.setattr(module, "GROUP", SMALL)


@pytest.fixture
def long(ledger):
    """Three full groups and one more adapter, and snapshots from one group on."""
    ledger.snapshots.policy = SnapshotPolicy(groups=1)
    for seed in range(3 * SMALL + 1):
        ledger.append(build_adapter(seed, dense=seed % 5 == 4))
    return ledger


def truth(ledger, rev="HEAD", base=None):
    """The state's weights from the adapters alone."""
    return compose(build_base() if base is None else base, ledger.adapters(rev))


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def files(place) -> list[Path]:
    return sorted((place / "objects" / "snapshots").glob("*"))


def objects_read(ledger, monkeypatch) -> list[str]:
    """Digests of the adapters whose files are read from now on."""
    read: list[str] = []
    module = importlib.import_module("ledger.states.deltas")
    original = module.read_deltas
    monkeypatch.setattr(
        module, "read_deltas", lambda store, digest, recorded: read.append(digest) or original(store, digest, recorded)
    )
    return read


class TestUse:
    def test_a_checkout_next_to_a_snapshot_reads_only_the_adapters_after_it(self, long, monkeypatch):
        first = long.compose(build_base())
        read = objects_read(long, monkeypatch)
        assert equal(long.compose(build_base()), first)
        assert read == [build_adapter(3 * SMALL, dense=(3 * SMALL) % 5 == 4).digest]

    def test_it_serves_every_base_of_the_ledger(self, long):
        long.compose(build_base())
        for dtype in (torch.bfloat16, torch.float64):
            base = build_base(dtype)
            assert equal(long.compose(base), truth(long, base=base))

    def test_only_the_changed_modules_where_no_others_are_asked_for(self, long):
        weights = long.compose(build_base(), only_changed=True)
        assert set(weights) == {"h.0.mlp", "h.1.mlp"}
        assert equal(weights, {name: truth(long)[name] for name in weights})

    def test_a_state_that_shares_the_first_groups_starts_from_theirs(self, long, monkeypatch):
        long.compose(build_base(), f"HEAD~{SMALL + 1}")  # two groups
        long.revert("HEAD~1")  # in the third
        read = objects_read(long, monkeypatch)
        assert equal(long.compose(build_base()), truth(long))
        assert len(read) == SMALL

    def test_another_number_of_threads_has_snapshots_of_its_own(self, long, monkeypatch):
        long.compose(build_base())
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1234)
        read = objects_read(long, monkeypatch)
        long.compose(build_base())
        assert len(read) == 3 * SMALL + 1

    def test_the_order_of_the_adapters_counts(self):
        digests = [f"{number:064x}" for number in range(2 * SMALL)]
        same, other = keys(digests), keys([*digests[:SMALL], *digests[SMALL:][::-1]])
        assert (len(same), same[0] == other[0], same[1] == other[1]) == (2, True, False)


class TestWriting:
    def test_none_is_written_before_enough_groups_were_composed(self, ledger, place):
        ledger.snapshots.policy = SnapshotPolicy(groups=2)
        for seed in range(2 * SMALL):
            ledger.compose(build_base())
            assert files(place) == []
            ledger.append(build_adapter(seed))
        ledger.compose(build_base())
        assert len(files(place)) == 1

    def test_the_oldest_go_beyond_the_number_or_the_bytes(self, long, place):
        long.snapshots.policy = SnapshotPolicy(groups=1, keep=2)
        for back in (2 * SMALL + 1, SMALL + 1, 1):
            long.compose(build_base(), f"HEAD~{back}")
        digests = [entry.adapter for entry in long.active()]
        assert {path.stem for path in files(place)} == set(keys(digests)[1:])
        size = files(place)[0].stat().st_size
        shutil.rmtree(place / "objects" / "snapshots")
        long.snapshots.policy = SnapshotPolicy(groups=1, max_bytes=size)
        long.compose(build_base(), "HEAD~1")
        assert [path.stem for path in files(place)] == keys(digests)[-1:]
        long.snapshots.policy = SnapshotPolicy(groups=1, max_bytes=size // 2)
        shutil.rmtree(place / "objects" / "snapshots")
        long.compose(build_base())
        assert files(place) == []

    def test_keeping_none_writes_none(self, long, place):
        long.snapshots.policy = SnapshotPolicy(groups=1, keep=0)
        assert equal(long.compose(build_base()), truth(long))
        assert files(place) == []

    @pytest.mark.parametrize("values", [{"groups": 0}, {"keep": -1}, {"max_bytes": -1}])
    def test_a_policy_without_meaning_is_refused(self, values):
        with pytest.raises(InputError, match="snapshot policy"):
            SnapshotPolicy(**values)

    def test_a_store_that_cannot_be_written_gives_the_state_all_the_same(self, long, place, monkeypatch):
        def refuse(*_):
            raise EnvironmentFailure("read-only file system")

        monkeypatch.setattr(type(long.store), "write", refuse)
        assert equal(long.compose(build_base()), truth(long))
        assert files(place) == []

    def test_a_database_that_cannot_be_written_gives_the_state_all_the_same(self, long, place, monkeypatch):
        def refuse():
            raise EnvironmentFailure("attempt to write a readonly database")

        monkeypatch.setattr(long.database, "write", refuse)
        assert equal(long.compose(build_base()), truth(long))
        assert equal(long.compose(build_base()), truth(long))

    def test_what_an_interrupted_writer_left_is_a_notice_and_goes_with_the_next(self, long, place):
        long.compose(build_base(), f"HEAD~{SMALL + 1}")
        orphan = place / "objects" / "snapshots" / f"{'0' * 64}.safetensors"
        orphan.write_bytes(b"x")
        assert [(p.code, p.damage) for p in long.verify()] == [(Code.TEMPORARY_FILE, False)]
        long.compose(build_base())
        assert not orphan.exists()
        assert long.verify() == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def forge(path: Path) -> None:
    save_file({name: total + 1 for name, total in load_file(path).items()}, path)


def pickle(path: Path) -> None:
    # Copies: the loaded tensors are windows into the file that is overwritten.
    torch.save({name: total.clone() for name, total in load_file(path).items()}, path)


def link(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_bytes(data)
    path.symlink_to(elsewhere)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # opening it would wait for ever


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


class TestNeverTruth:
    @pytest.mark.parametrize("harm", [flip, cut, forge, pickle, link, pipe, directory, Path.unlink])
    def test_a_file_that_is_not_what_was_written_is_not_used(self, long, place, harm):
        expected = long.compose(build_base())
        (path,) = files(place)
        harm(path)
        assert equal(long.compose(build_base()), expected)

    @pytest.mark.parametrize("harm", [flip, cut, forge, Path.unlink])
    def test_and_is_written_anew(self, long, place, harm, monkeypatch):
        expected = long.compose(build_base())
        (path,) = files(place)
        harm(path)
        long.compose(build_base())
        assert long.verify() == []
        read = objects_read(long, monkeypatch)
        assert equal(long.compose(build_base()), expected)
        assert len(read) == 1

    def test_of_two_the_sound_one_is_used(self, long, place, monkeypatch):
        long.compose(build_base(), f"HEAD~{SMALL + 1}")
        expected = long.compose(build_base())
        newest = place / "objects" / "snapshots" / f"{keys([e.adapter for e in long.active()])[-1]}.safetensors"
        flip(newest)
        read = objects_read(long, monkeypatch)
        assert equal(long.compose(build_base()), expected)
        assert len(read) == SMALL + 1

    def test_one_of_another_state_under_this_ones_name_is_not_used(self, long, place):
        long.compose(build_base(), f"HEAD~{SMALL + 1}")
        (old,) = files(place)
        data = old.read_bytes()
        expected = long.compose(build_base())
        for path in files(place):
            path.write_bytes(data)
        assert equal(long.compose(build_base()), expected)

    @pytest.mark.parametrize("value", ["", "[]", "{}", '{"sha256": "x", "size": 1, "devices": {}, "written": 0}'])
    def test_a_record_without_meaning_is_no_record(self, long, value):
        expected = long.compose(build_base())
        with long.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE meta SET value = '{value}' WHERE key LIKE 'snapshot:%%'")
        assert equal(long.compose(build_base()), expected)
        assert equal(long.compose(build_base()), expected)

    def test_sums_for_a_module_the_base_lacks_are_not_used_and_the_adapters_are_refused(self, long):
        long.compose(build_base())
        base = {name: weight for name, weight in build_base().items() if name != "h.1.mlp"}
        with pytest.raises(InputError, match=r"'h\.1\.mlp'"):
            long.compose(base)

    @pytest.mark.parametrize("deep", [True, False])
    def test_verify_names_what_is_amiss_and_calls_none_of_it_damage(self, long, place, deep):
        long.compose(build_base())
        assert long.verify(deep=deep) == []
        (path,) = files(place)
        cut(path)
        (problem,) = long.verify(deep=deep)
        assert (problem.code, problem.damage) == (Code.DAMAGED_SNAPSHOT, False)
        assert path.name in problem.path

    def test_verify_reads_them_all(self, long, place):
        long.compose(build_base())
        flip(files(place)[0])
        assert long.verify(deep=False) == []
        assert [problem.code for problem in long.verify()] == [Code.DAMAGED_SNAPSHOT]

    def test_a_foreign_file_among_them_is_found(self, long, place):
        long.compose(build_base())
        (place / "objects" / "snapshots" / "notes.txt").write_text("x")
        assert [(p.code, p.damage) for p in long.verify()] == [(Code.EXTRA_FILE, True)]

    def test_collecting_garbage_removes_the_sums_that_may_hold_what_was_removed(self, long, place):
        long.compose(build_base())
        gone = long.entry().adapter
        long.reset("HEAD~1")
        gc.collect(long.database, long.store, keep_days=None, grace=0)
        assert long.store.manifest(gone) is None
        assert files(place) == []
        assert long.verify() == []

    def test_clearing_removes_files_and_records(self, long, place):
        expected = long.compose(build_base())
        long.snapshots.clear()
        assert files(place) == []
        assert long.verify() == []
        assert equal(long.compose(build_base()), expected)


operations = st.lists(
    st.tuples(
        st.sampled_from(["edit", "edit", "edit", "dense", "revert", "swap", "merge", "look"]), st.integers(0, 99)
    ),
    min_size=4,
    max_size=24,
)


def act(ledger: Ledger, operation: str, number: int, seed: int) -> None:
    """Apply one operation where it has a meaning."""
    active = ledger.active()
    adapter = build_adapter(seed, dense=operation == "dense")
    if operation in ("edit", "dense"):
        ledger.append(adapter)
    elif operation == "revert":
        possible = [e for e in ledger.log() if e.operation != "root" and in_force(ledger, e.id)]
        if possible:
            ledger.revert(possible[number % len(possible)].id)
    elif operation == "swap" and active:
        ledger.append(adapter, operation="swap", targets=[active[number % len(active)].id])
    elif operation == "merge" and len(active) > 1:
        first = number % (len(active) - 1)
        ledger.append(adapter, operation="merge", targets=[active[first].id, active[-1].id])
    elif operation == "look":
        ledger.compose(build_base(), f"HEAD~{number % len(ledger.log())}")


def in_force(ledger: Ledger, identifier: str) -> bool:
    try:
        ledger.check_revert(identifier)
    except InputError:
        return False
    return True


@settings(max_examples=15, deadline=None)
@given(operations)
def test_every_state_is_the_same_with_and_without_snapshots(steps):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        use_small_groups(patch)
        with create(Path(directory) / "ledger") as ledger:
            ledger.snapshots.policy = SnapshotPolicy(groups=1, keep=3)
            for seed, (operation, number) in enumerate(steps):
                act(ledger, operation, number, seed)
                assert equal(ledger.compose(build_base()), truth(ledger))
            for back in range(len(ledger.log())):
                assert equal(ledger.compose(build_base(), f"HEAD~{back}"), truth(ledger, f"HEAD~{back}"))
            assert ledger.verify(deep=False) == []
            assert ledger.base_model == MODEL
