"""What only a server can do wrong: refuse, drop connections, die; and what a server's driver is needed for."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine, insert, select, text

import ledger.database.database
from ledger import Ledger
from ledger.database.database import Database
from ledger.database.schema import Base
from seqedit.errors import EnvironmentFailure, InputError
from tests.ledger.database import databases, postgresql_server
from tests.ledger.database.databases import ServerPlace
from tests.ledger.helpers import TIME, build_adapter, build_base
from tests.reliability.processes import in_child, kill_at, start, wait

SAMPLE = 25


def append(place: ServerPlace) -> None:
    with Ledger.open(place) as opened:
        opened.append(build_adapter(9), scores={"counterfact": {"ES": 1}})


def revert(place: ServerPlace) -> None:
    with Ledger.open(place) as opened:
        opened.revert("HEAD~1")


@pytest.fixture
def on_server(postgresql_admin: Engine, tmp_path: Path) -> Iterator[ServerPlace]:
    """A place on the server, with a ledger of three edits."""
    with databases.schema(postgresql_admin, tmp_path / "ledger") as place:
        with databases.create(place, time=TIME) as made:
            for seed in range(3):
                made.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
        yield place


def dump(place: ServerPlace) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    with Ledger.open(place) as opened, opened.database.read() as connection:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(select(table))]
            for table in Base.metadata.sorted_tables
        }


def restore(place: ServerPlace, content: dict[str, list[dict[str, Any]]]) -> None:
    """Make the tables hold what they held; the reflog goes on counting, as it does after a rollback."""
    database = Database(str(place))
    with database.write() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
        for table in Base.metadata.sorted_tables:
            if content[table.name]:
                connection.execute(insert(table), content[table.name])
    database.close()


@pytest.mark.promise(1)
@pytest.mark.parametrize("sample", [SAMPLE, pytest.param(10**6, marks=pytest.mark.slow, id="all")])
@pytest.mark.parametrize("action", [append, revert])
def test_a_client_killed_at_any_call_leaves_the_old_or_the_new_state(on_server, tmp_path, action, sample):
    place, objects, pristine = on_server, on_server / "objects", tmp_path / "pristine"
    shutil.copytree(objects, pristine)
    rows = dump(place)
    with Ledger.open(place) as opened:
        before_entries, before = len(opened.log()), opened.compose(build_base())
    assert in_child(lambda: kill_at(0, lambda: action(place), tmp_path / "count")) == 0
    total = int((tmp_path / "count").read_text())
    assert total > 20
    with Ledger.open(place) as opened:
        after_entries, after = len(opened.log()), opened.compose(build_base())
    outcomes = set()
    for point in sorted({*random.Random(0).sample(range(1, total + 1), min(sample, total)), total}):
        restore(place, rows)
        shutil.rmtree(objects)
        shutil.copytree(pristine, objects)
        assert in_child(lambda point=point: kill_at(point, lambda: action(place))) == -signal.SIGKILL, point
        with Ledger.open(place) as opened:
            assert [p for p in opened.verify() if p.damage] == [], point
            state, entries = opened.compose(build_base()), len(opened.log())
            expected = {before_entries: before, after_entries: after}[entries]
            assert all(torch.equal(state[name], expected[name]) for name in state), point
            outcomes.add(entries)
            if entries == before_entries:  # nothing that was left behind is in the way of the next writer
                action(place)
                assert len(opened.log()) == after_entries
    assert outcomes == {before_entries, after_entries}, "the sample must hold kills before and after the commit"


def test_a_server_killed_while_clients_append_keeps_all_that_was_acknowledged(postgresql_admin, tmp_path):
    """Its own server, whose every process is killed; it then recovers from its log."""
    with postgresql_server.run() as server:
        admin = databases.admin_engine(server.url)
        with databases.schema(admin, tmp_path / "ledger") as place:
            databases.create(place, time=TIME).close()
            acknowledged = tmp_path / "acknowledged"

            def work(first: int) -> None:
                with Ledger.open(place) as mine:
                    for seed in range(first, first + 1000):
                        entry = mine.append(build_adapter(seed))
                        with acknowledged.open("a") as stream:
                            stream.write(f"{entry.id}\n")

            pids = [start(lambda n=n: work(1000 * n)) for n in range(1, 4)]
            while not acknowledged.exists() or len(acknowledged.read_text().splitlines()) < 12:
                assert all(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in pids)
            admin.dispose()
            server.kill()
            assert wait(pids) == [1, 1, 1]
            with pytest.raises(EnvironmentFailure) as error:
                Ledger.open(place)
            assert error.value.exit_code == 3
            server.restart()
            with Ledger.open(place) as opened:
                assert {entry.id for entry in opened.log()} >= set(acknowledged.read_text().split())
                assert [p for p in opened.verify() if p.damage] == []
                opened.append(build_adapter(1))
        admin.dispose()


def test_a_session_goes_on_after_the_server_has_dropped_its_connections(on_server, postgresql_admin):
    with Ledger.open(on_server) as opened:
        opened.head()
        drop_connections(postgresql_admin)
        opened.append(build_adapter(9))
        assert len(opened.log()) == 5


def test_a_connection_lost_within_a_transaction_records_nothing_and_is_an_environment_failure(
    on_server, postgresql_admin
):
    def write(opened: Ledger) -> None:
        with opened.database.write() as connection:
            connection.execute(text("UPDATE refs SET entry = NULL WHERE name = 'main'"))
            drop_connections(postgresql_admin)
            connection.execute(text("SELECT 1"))

    with Ledger.open(on_server) as opened:
        with pytest.raises(EnvironmentFailure) as error:
            write(opened)
        assert "\n" not in str(error.value)
        assert len(opened.log()) == 4
        assert opened.verify() == []


def drop_connections(admin: Engine) -> None:
    with admin.connect() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        connection.execute(text(f"{others} AND backend_type = 'client backend'"))


def test_a_writer_that_waits_too_long_is_told_so(on_server, monkeypatch):
    monkeypatch.setattr(ledger.database.database, "BUSY_SECONDS", 1)
    with Ledger.open(on_server) as one, Ledger.open(on_server) as two, one.database.write():
        assert len(two.log()) == 4, "readers do not wait"
        with pytest.raises(EnvironmentFailure, match="lock timeout"):
            two.revert("HEAD")


def test_two_ledgers_in_schemas_of_one_database_do_not_wait_for_each_other(on_server, postgresql_admin, tmp_path):
    with (
        databases.schema(postgresql_admin, tmp_path / "other") as place,
        databases.create(place) as other,
        Ledger.open(on_server) as opened,
        opened.database.write(),
    ):
        other.append(build_adapter(1))
        assert len(other.log()) == 2


def test_commits_are_durable_where_the_server_would_rather_be_fast(on_server):
    place = ServerPlace(Database(str(on_server)).url, on_server.directory)
    fast = Database(place.replace("options=", "options=-csynchronous_commit%3Doff%20"))
    with fast.read() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off"
    with fast.write() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    fast.close()


def test_a_transaction_that_the_server_aborts_says_that_it_may_be_tried_again(on_server):
    database = Database(str(on_server))
    with pytest.raises(EnvironmentFailure, match="nothing was recorded; try again"), database.write() as connection:
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'serialization_failure'; END $$")
    database.close()


def test_a_server_that_is_not_there_is_an_environment_failure_without_the_password():
    url = "postgresql://someone:secret@127.0.0.1:1/nothing?connect_timeout=5"
    for call in (lambda: Ledger.open(url), lambda: databases.create(ServerPlace(Database(url).url, Path("x")))):
        with pytest.raises(EnvironmentFailure, match="refused") as error:
            call()
        assert error.value.exit_code == 3
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)


def test_a_database_without_a_ledger_is_named_without_the_password(postgresql_admin, tmp_path):
    with databases.schema(postgresql_admin, tmp_path) as place:
        url = place.replace("ledger@", "ledger:secret@")
        with pytest.raises(InputError, match="no ledger at") as error:
            Ledger.open(url)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["postgresql://h/d", "postgres://h/d", "postgresql+psycopg://h/d"])
def test_a_missing_driver_says_what_to_install(url, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r'pip install "seqedit\[postgresql\]"'):
        Database(url)


def test_databases_that_no_test_has_seen_are_refused():
    with pytest.raises(InputError, match="an SQLite file or a PostgreSQL server, not 'mysql'"):
        Database("mysql://h/d")
