"""A store belongs to the ledgers that are registered with it: nothing else is adopted, and gc asks all of them."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from fsspec.config import conf
from sqlalchemy.engine import make_url

from ledger import Code, Ledger
from ledger.bundles.import_bundle import import_bundle
from ledger.database.store_users import Users, _record, check_new_store, forget, registrations
from ledger.objects.local import open_store
from ledger.objects.marker import Marker, read_marker
from ledger.objects.objects import LEDGERS, MARKER
from ledger.states.snapshots import SnapshotPolicy, Snapshots
from ledger.upkeep.gc import Garbage, collect
from seqedit.adapters.composition import GROUP
from seqedit.cli.main import run
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError
from tests.conftest import DATA
from tests.ledger.database import databases
from tests.ledger.helpers import MODEL, TIME, build_adapter, build_base
from tests.ledger.objects.sftp_server import Site

_numbers = itertools.count()


def now(ledger: Ledger, **options) -> Garbage:
    return collect(ledger.database, ledger.store, **{"keep_days": None, "grace": 0, **options})


def drop(ledger: Ledger, seed: int) -> None:
    """Append an adapter and take it back, so that nothing but the reflog leads to it."""
    ledger.append(build_adapter(seed), time=TIME)
    ledger.reset("HEAD~1")


def in_use(directory: Path) -> dict[str, bytes]:
    """A directory that is in use for something else, with the names that gc empties."""
    files = {"tmp/thesis/main.tex": b"years of work", "snapshots/monday.img": b"zfs", "snapshots/zfs/tuesday.img": b"x"}
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return files


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture(params=["directory", "memory", "sftp"])
def shared(request, tmp_path, monkeypatch):
    """Where a store that several ledgers share may be."""
    if request.param == "directory":
        yield str(tmp_path / "store")
    elif request.param == "memory":
        yield f"memory://shared-{next(_numbers)}"
    else:
        site = Site(tmp_path)
        monkeypatch.setitem(conf, "ssh", site.options)
        with site.running():
            yield f"{site.url}/store"


@pytest.fixture
def two(tmp_path, shared):
    """Two ledgers with one store; both have an adapter of their own and one in common."""
    with (
        Ledger.create(tmp_path / "a", MODEL, objects=shared, time=TIME) as a,
        Ledger.create(tmp_path / "b", MODEL, objects=shared, time=TIME) as b,
    ):
        for ledger, seed in ((a, 1), (b, 2)):
            ledger.append(build_adapter(0), time=TIME)
            ledger.append(build_adapter(seed), time=TIME)
        yield a, b


class TestForeignDirectories:
    @pytest.mark.parametrize("content", ["in use", "one file", "tmp alone", "objects of a stranger"])
    def test_a_directory_that_is_not_empty_is_no_new_store(self, tmp_path, content):
        data = tmp_path / "data"
        if content == "in use":
            in_use(data)
        elif content == "one file":
            data.mkdir()
            (data / "notes").write_text("x")
        elif content == "tmp alone":
            (data / "tmp").mkdir(parents=True)
        else:
            open_store(str(data)).put(build_adapter(1).digest, build_adapter(1).save_pretrained)
        before = files(data)
        with pytest.raises(InputError, match="no object store of seqedit, and it is not empty"):
            Ledger.create(tmp_path / "ledger", MODEL, objects=str(data))
        assert files(data) == before
        assert not (tmp_path / "ledger").exists()

    def test_objects_in_a_ledgers_own_directory_that_are_not_ours_are_not_adopted_either(self, tmp_path):
        before = in_use(tmp_path / "project" / "objects")
        with pytest.raises(InputError, match="not empty"):
            Ledger.create(tmp_path / "project", MODEL)
        assert files(tmp_path / "project" / "objects") == before

    def test_init_refuses_it_with_exit_code_2_and_makes_nothing(self, tmp_path, capsys):
        before = in_use(tmp_path / "data")
        places = ["--ledger", str(tmp_path / "l"), "--objects", str(tmp_path / "data")]
        assert run(["init", "--model", "demo-gpt2", *places]) == 2
        assert "is no object store of seqedit" in capsys.readouterr().err
        assert files(tmp_path / "data") == before
        assert not (tmp_path / "l" / "ledger.db").exists()

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_gc_of_a_ledger_whose_store_is_a_foreign_directory_removes_nothing(self, tmp_path, dry_run):
        before = in_use(tmp_path / "data")
        with Ledger.create(tmp_path / "l", MODEL) as ledger:
            databases.alter(ledger, "UPDATE meta SET value = :v WHERE key = 'objects'", v=str(tmp_path / "data"))
        with Ledger.open(tmp_path / "l") as ledger:
            with pytest.raises(InputError, match="not marked as an object store"):
                now(ledger, dry_run=dry_run)
            with pytest.raises(InputError, match="nothing is written or removed"):
                ledger.append(build_adapter(1))
            assert len(ledger.log()) == 1
        assert files(tmp_path / "data") == before

    def test_a_store_of_old_in_a_directory_with_other_things_is_written_to_and_never_tidied(self, tmp_path):
        with Ledger.create(tmp_path / "l", MODEL, objects=str(tmp_path / "data")) as ledger:
            ledger.append(build_adapter(1))
            (tmp_path / "data" / MARKER).unlink()  # as versions before there were markers left it
            shutil.rmtree(tmp_path / "data" / LEDGERS)
        foreign = in_use(tmp_path / "data")
        with Ledger.open(tmp_path / "l") as ledger:
            drop(ledger, 2)
            with pytest.raises(InputError, match=r"snapshots/monday.img|tmp/thesis"):
                now(ledger)
            assert read_marker(ledger.store) is None
        assert foreign.items() <= files(tmp_path / "data").items()


class TestSharedStores:
    def test_gc_of_one_ledger_keeps_what_another_one_needs(self, two):
        a, b = two
        weights = b.compose(build_base())
        a.reset("HEAD~2")  # its own adapter and the common one are unused here
        assert len(now(a, dry_run=True).objects) == 1
        found = now(a)
        assert [item.path for item in found.objects] == [a.store.path(build_adapter(1).digest)]
        assert [p for p in b.verify() if p.damage] == []
        assert all(torch.equal(weights[name], tensor) for name, tensor in b.compose(build_base()).items())
        b.reset("HEAD~2")
        assert len(now(b).objects) == 2
        assert now(a) == now(b) == Garbage((), (), (), 0)

    def test_what_only_the_others_reflog_leads_to_stays_for_it(self, two):
        a, b = two
        b.reset("HEAD~1")
        assert now(a).objects == ()
        b.undo()
        assert [p for p in b.verify() if p.damage] == []

    @pytest.mark.parametrize("shared", ["directory"], indirect=True)
    def test_a_ledger_that_cannot_be_opened_stops_gc_until_it_is_back_or_forgotten(self, two, tmp_path, shared):
        a, b = two
        drop(a, 5)
        b.close()
        os.rename(tmp_path / "b", tmp_path / "unmounted")
        before = files(Path(shared))
        for dry_run in (True, False):
            with pytest.raises(EnvironmentFailure, match=r"cannot be opened, so nothing is removed.*b/ledger.db"):
                now(a, dry_run=dry_run)
        assert files(Path(shared)) == before
        assert len(a.moves()) > 0
        os.rename(tmp_path / "unmounted", tmp_path / "b")
        assert len(now(a).objects) == 1
        with pytest.raises(InputError, match="is there and uses the store"):
            forget(a.database, a.store, str(tmp_path / "b"))
        with pytest.raises(InputError, match=r"no ledger .* is registered"):
            forget(a.database, a.store, str(tmp_path / "c"))
        with pytest.raises(InputError, match="the ledger that asks"):
            forget(a.database, a.store, str(tmp_path / "a"))
        shutil.rmtree(tmp_path / "b")
        assert len(forget(a.database, a.store, str(tmp_path / "b"))) == 1
        assert len(now(a).objects) == 1
        assert a.verify() == []

    @pytest.mark.parametrize("shared", ["directory"], indirect=True)
    def test_the_command_line_says_which_ledger_and_forgets_it(self, two, tmp_path, shared, capsys):
        shutil.rmtree(tmp_path / "b")
        assert run(["gc", "--ledger", str(tmp_path / "a")]) == 3
        assert str(tmp_path / "b") in capsys.readouterr().err
        assert run(["gc", "--ledger", str(tmp_path / "a"), "--forget-ledger", str(tmp_path / "b"), "--grace", "0"]) == 0
        assert "1 objects" in capsys.readouterr().out

    @pytest.mark.parametrize("shared", ["directory"], indirect=True)
    def test_another_ledger_at_the_place_of_a_registered_one_is_not_taken_for_it(self, two, tmp_path):
        a, _ = two
        shutil.rmtree(tmp_path / "b")
        Ledger.create(tmp_path / "b", MODEL, message="another").close()
        with pytest.raises(EnvironmentFailure, match="another ledger lies there now"):
            now(a)

    @pytest.mark.parametrize("shared", ["directory"], indirect=True)
    def test_a_copy_of_a_ledger_registers_with_its_first_write(self, two, tmp_path):
        a, _ = two
        shutil.copytree(tmp_path / "a", tmp_path / "copy")
        with Ledger.open(tmp_path / "copy") as copy:
            copy.append(build_adapter(7))
            assert now(a).objects == ()
            assert [p for p in copy.verify() if p.damage] == []

    @pytest.mark.parametrize("shared", ["directory"], indirect=True)
    def test_one_ledger_by_two_ways_is_locked_once(self, two, tmp_path):
        a, _ = two
        (tmp_path / "link").mkdir()
        os.link(tmp_path / "a" / "ledger.db", tmp_path / "link" / "ledger.db")
        with Users(a.database, a.store) as users:
            assert len(users.databases()) == 2
        assert now(a).objects == ()

    @pytest.mark.parametrize("shared", ["directory"], indirect=True)
    def test_an_import_registers_too(self, two, tmp_path, shared):
        a, _ = two
        assert run(["export", "--format", "bundle", "--ledger", str(tmp_path / "a"), "--out", str(tmp_path / "z")]) == 0
        import_bundle(tmp_path / "c", tmp_path / "z", objects=shared)
        a.reset("HEAD~2")
        assert now(a).objects == ()
        with Ledger.open(tmp_path / "c") as c:
            assert [p for p in c.verify() if p.damage] == []

    def test_a_store_in_a_ledgers_own_directory_is_shared_as_safely(self, tmp_path):
        with (
            Ledger.create(tmp_path / "a", MODEL) as a,
            Ledger.create(tmp_path / "b", MODEL, objects=str(tmp_path / "a" / "objects")) as b,
        ):
            a.append(build_adapter(1))
            b.append(build_adapter(2))
            assert now(a).objects == now(b).objects == ()
            for ledger in (a, b):
                assert [p for p in ledger.verify() if p.damage] == []
            b.close()
            os.rename(tmp_path / "a", tmp_path / "moved")  # as a whole: it finds its store, and b does not
            with Ledger.open(tmp_path / "moved") as moved:
                drop(moved, 3)
                assert [item.path for item in now(moved).objects] == [a.store.path(build_adapter(3).digest)]

    def test_snapshots_of_other_ledgers_stay_when_one_is_written(self, tmp_path):
        store = str(tmp_path / "store")
        with (
            Ledger.create(tmp_path / "a", MODEL, objects=store) as a,
            Ledger.create(tmp_path / "b", MODEL, objects=store) as b,
        ):
            sums = {"h.0.mlp": torch.zeros(2, 2, dtype=torch.float64)}
            for ledger, seed in ((a, 1), (b, 2)):
                ledger.append(build_adapter(seed))
                digests = [build_adapter(seed).digest] * GROUP
                Snapshots(ledger.database, ledger.store, SnapshotPolicy()).write(digests, sums)
            assert len(list((tmp_path / "store" / "snapshots").iterdir())) == 2

    def test_no_password_of_a_database_is_written_into_the_store(self, tmp_path):
        secret = "password=hunter2&sslpassword=hunter2"

        class Server:
            url = make_url(f"postgresql://me:hunter2@host/db?{secret}&options=-csearch_path%3Dx")
            file = None

            def read(self):
                return ledger.database.read()

        with Ledger.create(tmp_path / "a", MODEL) as ledger:
            record = _record(Server(), ledger.store)
        assert "hunter2" not in str(record)
        assert "me@host/db" in record["database"]
        assert "search_path" in record["database"]


def test_ledgers_on_a_server_share_a_store_without_their_passwords(place, tmp_path):
    with databases.create(place, time=TIME, objects=str(tmp_path / "store")) as a:
        a.append(build_adapter(1))
        with Ledger.create(tmp_path / "b", MODEL, objects=str(tmp_path / "store"), time=TIME) as b:
            b.append(build_adapter(2))
            assert now(a).objects == now(b).objects == ()
            a.reset("HEAD~1")
            assert len(now(a).objects) == 1
            assert [p for p in b.verify() if p.damage] == []


OF_OLD = sorted(
    path.parent.name
    for path in (DATA / "ledgers").glob("*/expected.json")
    if not (path.parent / "objects" / MARKER).exists()
)
"""Ledgers of versions whose stores had no marker."""


class TestStoresOfOld:
    def unmark(self, store: Path) -> None:
        (store / MARKER).unlink()
        shutil.rmtree(store / LEDGERS, ignore_errors=True)

    @pytest.mark.parametrize("golden", OF_OLD)
    def test_a_ledger_of_old_goes_on_and_its_own_store_is_adopted(self, tmp_path, golden):
        copy = Path(shutil.copytree(DATA / "ledgers" / golden, tmp_path / golden))
        with Ledger.open(copy) as ledger:
            assert read_marker(ledger.store) is None
            before = {p for p in files(copy / "objects") if p.count("/") == 2}
            found = collect(ledger.database, ledger.store, grace=0)
            assert found.objects == ()
            assert read_marker(ledger.store).complete
            assert before <= set(files(copy / "objects"))
            assert [p for p in ledger.verify() if p.damage] == []

    def test_of_a_shared_store_of_old_no_object_goes_until_all_ledgers_are_registered(self, tmp_path):
        store = tmp_path / "store"
        with (
            Ledger.create(tmp_path / "a", MODEL, objects=str(store)) as a,
            Ledger.create(tmp_path / "b", MODEL, objects=str(store)) as b,
        ):
            drop(a, 1)
            b.append(build_adapter(2))
        self.unmark(store)
        with Ledger.open(tmp_path / "a") as a, Ledger.open(tmp_path / "b") as b:
            assert now(a, dry_run=True).unsure == 2
            assert not (store / MARKER).exists()
            found = now(a)
            assert (len(found.entries), found.objects, found.unsure) == (1, (), 2)
            assert [p for p in b.verify() if p.damage] == []
            assert now(b).unsure == 1  # registers b
            assert [item.path for item in now(a, all_registered=True).objects] == [
                a.store.path(build_adapter(1).digest)
            ]
            assert now(b) == Garbage((), (), (), 0)
            assert [p for p in b.verify() if p.damage] == []

    def test_the_first_write_of_a_ledger_of_old_registers_it(self, tmp_path):
        with Ledger.create(tmp_path / "a", MODEL, objects=str(tmp_path / "store")) as a:
            a.append(build_adapter(1))
        self.unmark(tmp_path / "store")
        with Ledger.open(tmp_path / "a") as a:
            a.append(build_adapter(2))
            assert len(registrations(a.store)) == 1
            assert not read_marker(a.store).complete


class TestMarkers:
    def test_a_damaged_marker_or_registration_is_found_and_stops_gc(self, tmp_path):
        with Ledger.create(tmp_path / "a", MODEL, objects=str(tmp_path / "store")) as ledger:
            drop(ledger, 1)
            marker, registration = tmp_path / "store" / MARKER, next((tmp_path / "store" / LEDGERS).iterdir())
            for path in (marker, registration):
                content = path.read_bytes()
                for position in range(len(content.strip())):
                    path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
                    assert [p.code for p in ledger.verify(deep=False) if p.damage] == [Code.DAMAGED_STORE], position
                path.write_bytes(b"[" * 100_000)
                assert [p.code for p in ledger.verify(deep=False) if p.damage] == [Code.DAMAGED_STORE]
                if path == marker:
                    with pytest.raises(CheckFailed, match="damaged"):
                        now(ledger)
                    path.write_bytes(content)
            shutil.copy(registration, registration.with_name(f"{0:032x}.json"))  # of another ledger
            with pytest.raises(EnvironmentFailure, match="damaged"):
                now(ledger)
            registration.with_name(f"{0:032x}.json").unlink()
            assert len(now(ledger).objects) == 1  # its own is written anew
            assert ledger.verify() == []

    @pytest.mark.parametrize("left", [b"", b'{"comp'])
    def test_a_marker_whose_writer_was_killed_half_way_is_written_anew(self, left):
        store = open_store(f"memory://half-a-marker-{len(left)}")
        store.mark(left)
        assert read_marker(store) is None
        check_new_store(store)

    def test_what_a_killed_writer_of_a_marker_left_is_a_notice_and_goes(self, tmp_path):
        (tmp_path / "l" / "objects").mkdir(parents=True)
        (tmp_path / "l" / "objects" / f"{MARKER}.0123abcd.new").write_bytes(b"{")
        with Ledger.create(tmp_path / "l", MODEL) as ledger:
            assert [p.code for p in ledger.verify()] == [Code.TEMPORARY_FILE]
            assert now(ledger, grace=3600).young == 1
            old = time.time() - 7200
            os.utime(tmp_path / "l" / "objects" / f"{MARKER}.0123abcd.new", (old, old))
            assert len(now(ledger, grace=3600).temporary) == 1
            assert ledger.verify() == []

    def test_a_marker_says_what_it_said(self):
        marker = Marker.new(complete=False)
        assert Marker.from_bytes(marker.to_bytes()) == marker
        assert Marker.from_bytes(marker.confirmed().to_bytes()).complete
        assert Marker.new("root") == Marker.new("root") != Marker.new()
