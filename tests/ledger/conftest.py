"""Small ledgers. Every test that asks for one runs on SQLite and on PostgreSQL, unless it is marked `sqlite_file`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine

from ledger import Ledger
from tests.ledger.database import databases, postgresql_server
from tests.ledger.database.databases import ServerPlace
from tests.ledger.helpers import TIME, build_adapter, build_base


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("sqlite_file") is not None
        metafunc.parametrize("place", ["sqlite"] if marked else databases.DATABASES, indirect=True)


@pytest.fixture
def base() -> dict[str, torch.Tensor]:
    return build_base()


@pytest.fixture(scope="session")
def postgresql_admin() -> Iterator[Engine]:
    """A PostgreSQL server for the whole session; tests that need it skip with the reason where there is none."""
    server = postgresql_server.database()
    try:
        url = server.__enter__()
    except postgresql_server.NoServer as error:
        if postgresql_server.required():
            raise
        pytest.skip(f"no PostgreSQL server: {error}")
    try:
        engine = databases.admin_engine(url)
        yield engine
        engine.dispose()
    finally:
        server.__exit__(None, None, None)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | ServerPlace]:
    """Where a ledger may be made."""
    if request.param == "sqlite":
        yield tmp_path / "ledger"
    else:
        with databases.schema(request.getfixturevalue("postgresql_admin"), tmp_path / "ledger") as schema:
            yield schema


@pytest.fixture
def ledger(place: Path | ServerPlace) -> Iterator[Ledger]:
    """An empty ledger: the root only."""
    with databases.create(place, time=TIME) as made:
        yield made


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Three edits after the root."""
    for seed in range(3):
        ledger.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
    return ledger
