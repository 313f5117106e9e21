"""Ledgers of an older schema are upgraded when they are opened: whole, once, with a backup."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, inspect, text

from ledger import Ledger
from ledger.database import fact_keys
from ledger.database.database import Database
from ledger.database.migrations import upgrade
from ledger.database.migrations.versions import schema_2, schema_3
from ledger.database.places import read_meta
from ledger.database.schema import SCHEMA_VERSION, Base
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError
from seqedit.facts.identity import canonical
from tests.conftest import DATA
from tests.ledger.database.databases import ServerPlace
from tests.ledger.helpers import build_adapter
from tests.reliability.processes import in_child, kill_at, start, wait

OLD = DATA / "ledgers" / "format-1-schema-1"
BACKUP = "ledger.db.schema1.bak"
SAMPLE = 25


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A ledger of schema 1."""
    return Path(shutil.copytree(OLD, tmp_path / "ledger"))


@pytest.fixture
def empty(place: Path | ServerPlace) -> Iterator[Database]:
    """A database without tables."""
    if isinstance(place, Path):
        place.mkdir()
        database = Database(f"sqlite:///{place}/ledger.db", create=True)
    else:
        database = Database(str(place))
    yield database
    database.close()


def contents(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of an SQLite file."""
    connection = sqlite3.connect(file)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}
    finally:
        connection.close()


def schema_of(file: Path) -> str:
    return dict(contents(file)["meta"])["schema"]


def names_of(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


class TestSchema:
    def test_migrated_and_declared_schemas_are_the_same(self, empty: Database) -> None:
        with empty.write() as connection:
            upgrade(connection, None)
            migrated = described(connection)
            assert differences(connection) == []
        with empty.write() as connection:
            Base.metadata.drop_all(connection)
            Base.metadata.create_all(connection)
            assert described(connection) == migrated

    def test_the_comparison_sees_a_difference(self, empty: Database) -> None:
        with empty.write() as connection:
            upgrade(connection, None, to=1)
            assert differences(connection) != []

    def test_rows_of_schema_1_become_those_of_schema_2(self, empty: Database) -> None:
        """On either database; a ledger's rows are inserted as the old version wrote them."""
        with empty.write() as connection:
            upgrade(connection, None, to=1)
            # No long subject: where it made no difference on SQLite, PostgreSQL's index refused it.
            connection.execute(text("INSERT INTO meta VALUES ('schema', '1')"))
            connection.execute(
                text(
                    "INSERT INTO entries VALUES (:id, 0, 'edit', NULL, 'f', '{}', 1, '', "
                    "'2026-01-31T12:00:00Z', '', '')"
                ),
                [{"id": f"{n:064x}"} for n in range(3)],
            )
            rows = [
                {"entry": f"{n:064x}", "position": p, "subject": f"Sübject {n}", "relation": f"P{p}"}
                for n in range(3)
                for p in range(2500)
            ]
            connection.execute(
                text("INSERT INTO requests VALUES (:entry, :position, :subject, :relation, 'p', 't', NULL, NULL)"), rows
            )
        with empty.write() as connection:
            upgrade(connection, 1)
        with empty.read() as connection:
            assert read_meta(connection) == {"schema": str(SCHEMA_VERSION)}
            query = text(
                "SELECT entry, position, subject, relation, prompt, subject_digest, fact_digest, subject_folded "
                "FROM requests ORDER BY entry, position"
            )
            assert connection.execute(query).all() == [
                (
                    *row.values(),
                    "p",
                    fact_keys.subject_digest(row["subject"]),
                    fact_keys.fact_digest(row["subject"], row["relation"]),
                    fact_keys.folded(row["subject"]),
                )
                for row in rows
            ]

    @given(st.text(max_size=100), st.text(max_size=100))
    def test_the_scripts_make_the_keys_that_the_ledger_looks_for(self, subject: str, relation: str) -> None:
        assert schema_2._folded(subject) == fact_keys.folded(subject)
        assert schema_3._subject_digest(subject) == fact_keys.subject_digest(subject)
        assert schema_3._fact_digest(subject, relation) == fact_keys.fact_digest(subject, relation)
        # Schema 3 digests anew only what is not written canonically.
        if canonical(subject) == subject and canonical(relation) == relation:
            assert schema_2._fact_digest(subject, relation) == fact_keys.fact_digest(subject, relation)
        assert len(fact_keys.folded(subject)) <= fact_keys.FOLDED_CHARACTERS


def differences(connection: Connection) -> list[object]:
    """What alembic's autogenerate would change to come from the database to the declared schema."""
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def described(connection: Connection) -> dict[str, object]:
    """Columns, keys and indices of every table."""
    found = inspect(connection)
    return {
        table: (
            {c["name"]: (repr(c["type"]), c["nullable"], c["default"]) for c in found.get_columns(table)},
            found.get_pk_constraint(table)["constrained_columns"],
            sorted((k["constrained_columns"], k["referred_table"]) for k in found.get_foreign_keys(table)),
            sorted((i["name"], i["column_names"], i["unique"]) for i in found.get_indexes(table)),
        )
        for table in found.get_table_names()
    }


class TestOpening:
    def test_the_file_as_it_was_is_kept_beside_the_upgraded_one(self, old: Path) -> None:
        before = contents(old / "ledger.db")
        with Ledger.open(old) as ledger:
            assert ledger.verify() == []
            assert len(ledger.log()) == 6
        assert contents(old / BACKUP) == before
        assert schema_of(old / "ledger.db") == str(SCHEMA_VERSION)
        assert names_of(old) == {*names_of(OLD), BACKUP, "objects"}
        Ledger.open(old).close()
        assert names_of(old) == {*names_of(OLD), BACKUP, "objects"}

    def test_the_backup_is_a_ledger_again(self, old: Path) -> None:
        Ledger.open(old).close()
        (old / BACKUP).rename(old / "ledger.db")
        with Ledger.open(old) as ledger:
            assert ledger.verify() == []

    def test_what_stands_only_in_the_log_beside_the_file_is_in_the_backup(self, old: Path) -> None:
        database = sqlite3.connect(old / "ledger.db", isolation_level=None)
        try:
            database.execute("UPDATE reflog SET message = 'in the log' WHERE number = 1")
            assert (old / "ledger.db-wal").stat().st_size > 0
            Ledger.open(old).close()
        finally:
            database.close()
        assert "in the log" in repr(contents(old / BACKUP)["reflog"])

    def test_a_backup_of_something_else_is_not_replaced(self, old: Path) -> None:
        (old / BACKUP).write_text("mine")
        Ledger.open(old).close()
        assert (old / BACKUP).read_text() == "mine"
        assert schema_of(old / f"{BACKUP}.2") == "1"

    def test_a_file_that_cannot_be_upgraded_stays_as_it_was(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = contents(old / "ledger.db")

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("ledger.database.upgrade.os.fsync", fail)
        with pytest.raises(EnvironmentFailure, match="No space left"):
            Ledger.open(old)
        assert contents(old / "ledger.db") == before
        assert names_of(old) == names_of(OLD) | {"objects"}

    @pytest.mark.parametrize(("stated", "error"), [("99", InputError), ("x", CheckFailed), ("-1", CheckFailed)])
    def test_a_schema_that_cannot_be_is_named(self, old: Path, stated: str, error: type[Exception]) -> None:
        connection = sqlite3.connect(old / "ledger.db")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (stated,))
        connection.commit()
        connection.close()
        with pytest.raises(error, match=stated):
            Ledger.open(old)
        assert schema_of(old / "ledger.db") == stated

    def test_several_processes_that_open_it_at_once_upgrade_it_once(self, old: Path) -> None:
        def work(seed: int) -> None:
            with Ledger.open(old) as ledger:
                ledger.append(build_golden(seed))

        assert wait([start(lambda seed=seed: work(seed)) for seed in range(4)]) == [0] * 4
        with Ledger.open(old) as ledger:
            assert len(ledger.log()) == 10
            assert ledger.verify() == []
        assert {name for name in names_of(old) if "bak" in name} == {BACKUP}


def build_golden(seed: int):
    from tests.data.ledgers.make import MODEL

    return build_adapter(seed, base_model=MODEL)


@pytest.mark.parametrize("sample", [SAMPLE, pytest.param(10**6, marks=pytest.mark.slow, id="all")])
def test_killed_at_any_call_the_schema_is_the_old_or_the_new_one(old: Path, tmp_path: Path, sample: int) -> None:
    pristine, before = Path(shutil.copytree(old, tmp_path / "pristine")), contents(old / "ledger.db")

    def open_it() -> None:
        Ledger.open(old).close()

    assert in_child(lambda: kill_at(0, open_it, tmp_path / "count")) == 0
    total, after = int((tmp_path / "count").read_text()), contents(old / "ledger.db")
    assert total > 20
    outcomes = set()
    for point in sorted({*random.Random(0).sample(range(1, total + 1), min(sample, total)), total}):
        shutil.rmtree(old)
        shutil.copytree(pristine, old)
        assert in_child(lambda point=point: kill_at(point, open_it)) == -signal.SIGKILL, point
        schema = schema_of(old / "ledger.db")
        assert contents(old / "ledger.db") == (before if schema == "1" else after), point
        outcomes.add(schema)
        if (old / BACKUP).exists():
            assert contents(old / BACKUP) == before, point
        with Ledger.open(old) as ledger:
            assert ledger.verify() == [], point
        assert {name for name in names_of(old) if "bak" in name} == {BACKUP}, point
    assert outcomes == {"1", str(SCHEMA_VERSION)}, "the sample must hold kills before and after the commit"


def test_a_directory_that_cannot_be_written_is_read_and_refuses_writes(old: Path, monkeypatch) -> None:
    before = (old / "ledger.db").read_bytes()
    access = os.access
    inside = {old, *old.rglob("*")}
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and not (mode == os.W_OK and path in inside)
    )
    check_read_only(old)
    assert (old / "ledger.db").read_bytes() == before


def test_another_users_ledger_is_read_and_refuses_writes(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user who may not write")
    with tempfile.TemporaryDirectory() as directory:  # its parents, unlike tmp_path's, are open to all
        os.chmod(directory, 0o755)
        place = Path(shutil.copytree(OLD, Path(directory) / "ledger"))
        for path in (place, *place.rglob("*")):
            path.chmod(0o755 if stat.S_ISDIR(path.stat().st_mode) else 0o644)

        def work() -> None:
            os.setgid(65534)
            os.setuid(65534)
            tempfile.tempdir = None
            check_read_only(place)

        before = (place / "ledger.db").read_bytes()
        assert in_child(work) == 0
        assert (place / "ledger.db").read_bytes() == before


def check_read_only(place: Path) -> None:
    before = {path.name for path in Path(tempfile.gettempdir()).glob("seqedit-ledger-*")}
    names = names_of(place)
    with Ledger.open(place) as ledger:
        assert ledger.verify() == []
        assert len(ledger.log()) == 6
        for write in (
            lambda: ledger.revert("HEAD"),
            lambda: ledger.add_scores("HEAD", "kind", {"key": 1}),
            lambda: ledger.start_branch("new"),
        ):
            with pytest.raises(EnvironmentFailure, match=r"is read-only and has schema 1.*open it first as a user"):
                write()
    assert names_of(place) == names
    assert {path.name for path in Path(tempfile.gettempdir()).glob("seqedit-ledger-*")} == before
