"""Ledgers of the reliability tests, and the recording of their figures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger import Ledger
from tests.ledger.helpers import MODEL, TIME, build_adapter
from tests.reliability.record import Recorder

_recorder = pytest.StashKey[Recorder]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _recorder not in config.stash:
        config.stash[_recorder] = Recorder()
        config.pluginmanager.register(config.stash[_recorder])
    config.stash[_recorder].collected(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    recorder = session.config.stash.get(_recorder, None)
    if recorder is not None:
        recorder.write()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Report a figure that this test measured; slow tests' figures go into docs/measured/reliability.md."""
    return lambda text: record_property("figure", text)


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is such a file system: for tests in which nothing need be durable."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a ledger may be made."""
    return tmp_path / "ledger"


@pytest.fixture
def ledger(place: Path) -> Iterator[Ledger]:
    """An empty ledger: the root only."""
    with Ledger.create(place, MODEL, time=TIME) as made:
        yield made


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Three edits after the root."""
    for seed in range(3):
        ledger.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
    return ledger
