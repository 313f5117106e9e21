from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from sqlalchemy import select

from ledger import Code, Ledger
from ledger.database.schema import EntryParents, Objects, Requests, Scores, Signatures
from ledger.objects.local import LocalStore
from ledger.queries.reflog import moves
from ledger.upkeep import gc as collecting
from ledger.upkeep.gc import Garbage, collect
from ledger.upkeep.signing import Signature, add_signatures
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError
from tests.ledger.database.databases import alter
from tests.ledger.helpers import MODEL, TIME, build_adapter, build_base

OLD = "2020-01-01T00:00:00Z"


def now(ledger: Ledger, **options) -> Garbage:
    """Collect what nothing leads to, however young."""
    return collect(ledger.database, ledger.store, **{"keep_days": None, "grace": 0, **options})


def objects(place) -> set[str]:
    return {path.name for path in Path(place / "objects").glob("??/*")}


def age(path: Path, seconds: float) -> None:
    for item in (path, *path.rglob("*")):
        os.utime(item, (time.time() - seconds,) * 2)


@pytest.fixture
def littered(filled: Ledger) -> tuple[Ledger, str]:
    """A ledger with a deleted branch of one entry, and the entry's id."""
    filled.start_branch("gone", "HEAD~1")
    entry = filled.append(build_adapter(8), branch="gone", message="dropped", scores={"counterfact": {"ES": 1}})
    with filled.database.write() as connection:
        add_signatures(connection, [Signature(entry.id, "ab" * 32, "cd" * 64, TIME)])
    filled.delete_branch("gone")
    return filled, entry.id


class TestWhatStays:
    def test_nothing_of_a_ledger_without_garbage_is_removed(self, filled, place):
        before, log = objects(place), filled.log()
        assert now(filled) == Garbage((), (), (), 0)
        assert objects(place) == before
        assert filled.log() == log
        assert filled.verify() == []

    def test_reverted_and_replaced_entries_stay_with_their_objects(self, filled, place):
        filled.revert("HEAD~1")
        filled.append(build_adapter(7), operation="swap", targets=["HEAD~1"])
        assert now(filled) == Garbage((), (), (), 0)
        assert len(objects(place)) == 4
        filled.revert("HEAD")
        assert filled.verify() == []

    def test_what_other_branches_and_merged_branches_need_stays(self, filled):
        filled.start_branch("other", "HEAD~1")
        other = filled.append(build_adapter(7), branch="other")
        merged = filled.append(build_adapter(8), operation="merge", targets=["HEAD"], others=[other.id], branch="main")
        filled.delete_branch("other")
        assert now(filled) == Garbage((), (), (), 0)
        assert filled.entry(merged.id).parents[1] == other.id

    def test_the_reflog_keeps_entries_for_as_many_days_as_are_asked(self, littered):
        ledger, entry = littered
        assert now(ledger, keep_days=90).entries == ()
        assert ledger.entry(entry).message == "dropped"
        alter(ledger, "UPDATE reflog SET time = :old", old=OLD)
        assert [e.id for e in now(ledger, keep_days=90).entries] == [entry]

    def test_young_objects_stay_for_their_writer_and_are_counted(self, littered, place):
        ledger, _ = littered
        found = now(ledger, grace=3600)
        assert (len(found.entries), len(found.objects), found.young) == (1, 0, 1)
        assert build_adapter(8).digest in objects(place)
        assert [p.code for p in ledger.verify()] == [Code.ORPHAN_OBJECT]
        age(place / "objects", 7200)
        found = now(ledger, grace=3600)
        assert (len(found.entries), len(found.objects), found.young) == (0, 1, 0)
        assert ledger.verify() == []


class TestWhatGoes:
    def test_an_entry_goes_with_its_rows_and_its_object(self, littered, place):
        ledger, entry = littered
        found = now(ledger)
        assert [(e.id, e.operation, e.message) for e in found.entries] == [(entry, "edit", "dropped")]
        assert [files.path.split("/")[1] for files in found.objects] == [build_adapter(8).digest]
        assert found.size == found.objects[0].size > 1000
        assert build_adapter(8).digest not in objects(place)
        with ledger.database.read() as connection:
            for table in (EntryParents, Requests, Scores, Signatures):
                assert connection.execute(select(table).where(table.entry == entry)).all() == []
            query = select(Objects).where(Objects.digest == build_adapter(8).digest)
            assert connection.execute(query).all() == []
        with pytest.raises(InputError, match="no entry"):
            ledger.entry(entry)
        assert ledger.verify() == []

    def test_a_second_collection_finds_nothing(self, littered):
        ledger, _ = littered
        now(ledger)
        assert now(ledger) == Garbage((), (), (), 0)

    def test_an_object_that_another_entry_uses_stays(self, filled, place):
        filled.start_branch("gone", "HEAD~2")
        filled.append(build_adapter(2), branch="gone")  # the adapter of main's HEAD
        filled.delete_branch("gone")
        found = now(filled)
        assert (len(found.entries), found.objects) == (1, ())
        assert filled.verify() == []

    def test_several_entries_go_at_once_however_long_their_chain(self, filled, monkeypatch):
        monkeypatch.setattr(collecting, "_CHUNK", 2)
        filled.start_branch("gone")
        for seed in range(10, 17):
            filled.append(build_adapter(seed), branch="gone")
        filled.delete_branch("gone")
        found = now(filled)
        assert (len(found.entries), len(found.objects)) == (7, 7)
        assert filled.verify() == []

    def test_temporary_files_go_once_they_are_old(self, filled, place):
        (place / "objects" / "tmp" / "abc-1" / "new").mkdir(parents=True)
        (place / "objects" / "tmp" / "abc-1" / "new" / "data").write_bytes(b"x" * 100)
        assert now(filled, grace=3600).young == 1
        age(place / "objects" / "tmp", 7200)
        found = now(filled, grace=3600)
        assert [(files.path, files.size) for files in found.temporary] == [("tmp/abc-1", 100)]
        assert list((place / "objects" / "tmp").iterdir()) == []

    def test_a_temporary_directory_that_is_being_written_stays_however_old_it_is(self, filled, place):
        directory = place / "objects" / "tmp" / "abc-1"
        (directory / "new").mkdir(parents=True)
        age(directory, 7200)
        (directory / "new" / "data").write_bytes(b"x")
        assert now(filled, grace=3600).young == 1

    def test_the_log_of_a_branch_starts_where_its_removed_entries_ended(self, filled):
        head = filled.head()
        filled.append(build_adapter(9))
        filled.reset(head)
        assert len(now(filled).entries) == 1
        with filled.database.read() as connection:
            (newest, *_) = moves(connection, "main")
        assert (newest.old, newest.new) == (None, head)
        with pytest.raises(InputError, match="nothing to undo"):
            filled.undo()
        filled.append(build_adapter(9))
        filled.undo()
        assert filled.head() == head
        assert filled.verify() == []


class TestDryRun:
    def test_it_says_what_a_run_does_and_changes_nothing(self, littered, place):
        ledger, _ = littered
        (place / "objects" / "tmp" / "abc-1").mkdir()
        before = objects(place)
        planned = now(ledger, dry_run=True)
        assert objects(place) == before
        assert ledger.verify(deep=False) != []
        assert now(ledger) == planned


class TestDamage:
    def test_a_ledger_without_branches_is_not_collected(self, filled):
        alter(filled, "DELETE FROM refs")
        with pytest.raises(CheckFailed, match="no branch"):
            now(filled)

    def test_a_history_with_a_missing_entry_is_not_collected(self, littered, place):
        ledger, _ = littered
        alter(ledger, "DELETE FROM entries WHERE message = 'edit 1'")
        before = objects(place)
        with pytest.raises(CheckFailed, match="is missing"):
            now(ledger)
        assert objects(place) == before

    def test_strange_things_in_the_store_are_left_to_people(self, filled, place):
        (place / "objects" / "stray").write_text("x")
        digest = build_adapter(1).digest
        (place / "objects" / digest[:2] / digest).rename(place / "objects" / digest[:2] / "backup")
        before = filled.verify()
        assert now(filled) == Garbage((), (), (), 0)
        assert filled.verify() == before


class TestWriters:
    def test_a_writer_whose_object_was_collected_is_told_and_records_nothing(self, filled, monkeypatch):
        """Without a grace period; the object lies there, and its entry does not yet."""
        put, head = LocalStore.put, filled.head()

        def put_and_collect(store, digest, write):
            manifest = put(store, digest, write)
            collect(filled.database, filled.store, grace=0)
            return manifest

        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "put", put_and_collect)
            with pytest.raises(EnvironmentFailure, match="vanished"):
                filled.append(build_adapter(9))
        assert filled.head() == head
        filled.append(build_adapter(9))
        assert filled.verify() == []

    def test_the_grace_period_spares_the_object_of_a_writer(self, filled, monkeypatch):
        put = LocalStore.put

        def put_and_collect(store, digest, write):
            manifest = put(store, digest, write)
            assert collect(filled.database, filled.store).young == 1
            return manifest

        monkeypatch.setattr(LocalStore, "put", put_and_collect)
        filled.append(build_adapter(9))
        assert filled.verify() == []

    def test_an_orphan_that_a_writer_takes_over_is_young_again(self, filled, place):
        adapter = build_adapter(9)
        filled.store.put(adapter.digest, adapter.save_pretrained)
        age(place / "objects", 7200)
        filled.store.put(adapter.digest, adapter.save_pretrained)
        found = collect(filled.database, filled.store)
        assert (found.objects, found.young) == ((), 1)


def test_a_remote_store_is_collected_too(tmp_path):
    with Ledger.create(f"sqlite:///{tmp_path}/l.db", MODEL, objects="memory://gc-of-a-test") as ledger:
        ledger.append(build_adapter(1))
        before = ledger.compose(build_base())
        ledger.start_branch("gone")
        ledger.append(build_adapter(2), branch="gone")
        ledger.delete_branch("gone")
        assert now(ledger, grace=3600).young == 1
        found = now(ledger)
        assert (len(found.objects), found.young) == (1, 0)
        assert ledger.verify() == []
        after = ledger.compose(build_base())
        assert all(torch.equal(before[name], after[name]) for name in before)
