"""Row 2: whatever was not synced may be lost. Row 1 once more: the process dies between any two system calls."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.upkeep.gc import collect
from tests.ledger.helpers import MODEL, TIME, build_adapter
from tests.reliability.commands import damage, observe
from tests.reliability.power_loss import lay_out, survivors, synced_at, tree
from tests.reliability.write_log import NoTracer, WriteLog, record

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_one_session(place: Path) -> list[Callable[[Ledger], object]]:
    """Commands on one open ledger, whose log of unfinished writes grows."""
    return [
        lambda x: x.append(build_adapter(1), time=TIME),
        lambda x: x.append(build_adapter(2), time=TIME, scores={"counterfact": {"ES": 1}}),
        lambda x: x.revert("HEAD~1", time=TIME),
    ]


def alone(place: Path) -> list[Callable[[Ledger], object]]:
    """Commands that each open and close the ledger, as on the command line."""
    return [
        lambda x: x.append(build_adapter(3), operation="swap", targets=["HEAD~1"], time=TIME),
        lambda x: x.start_branch("other", "HEAD~1"),
        lambda x: x.reset("HEAD~2"),
        lambda x: collect(x.database, x.store, keep_days=None, grace=0),
        lambda x: x.delete_branch("other"),
        lambda x: collect(x.database, x.store, keep_days=None, grace=0),
        lambda x: x.append(build_adapter(4), time=TIME),
    ]


def work(directory: Path, done: Callable[[], None]) -> None:
    """Every kind of command; ``done`` is called whenever one has returned."""
    place = directory / "ledger"
    Ledger.create(place, MODEL, time=TIME).close()
    done()
    with Ledger.open(place) as ledger:
        for act in in_one_session(place):
            act(ledger)
            done()
    for act in alone(place):
        with Ledger.open(place) as ledger:
            act(ledger)
        done()


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> tuple[WriteLog, list[dict[str, Any] | None]]:
    """What the commands wrote, and what the ledger said after each of them."""
    directory = tmp_path_factory.mktemp("traced")
    states: list[dict[str, Any] | None] = [None]
    (directory / "here").mkdir()
    work(directory / "here", lambda: states.append(observe(directory / "here", weights=False)))
    (directory / "root").mkdir()
    try:
        return record(directory / "root", lambda done: work(directory / "root", done), directory), states
    except NoTracer as error:
        pytest.skip(str(error))


def check(found: dict[str, bytes | None], directory: Path, allowed: list[Any], *, go_on: bool = True) -> None:
    """Fails where a tree is not a sound ledger in one of the allowed states, or, with ``go_on``, cannot be extended."""
    directory.mkdir()
    try:
        lay_out(found, directory)
        seen = observe(directory, weights=False)  # verify reads them
        assert seen in allowed
        if seen is not None:
            assert damage(directory) == []
        if not go_on:
            return
        if seen is not None:
            with Ledger.open(directory / "ledger") as ledger:
                ledger.append(build_adapter(50))
        else:
            Ledger.create(directory / "ledger", MODEL).close()
        assert damage(directory) == []
    finally:
        shutil.rmtree(directory)


def digest(found: dict[str, bytes | None], allowed: list[Any]) -> str:
    text = repr(list(found.items()))
    return hashlib.sha256(f"{text}{allowed}".encode()).hexdigest()


def test_the_log_of_writes_gives_back_the_directory_that_was_written(traced):
    log, states = traced
    found = tree(log, survivors(log, synced_at(log.ops), len(log.ops), None))
    on_disk = {str(path.relative_to(log.root)): path for path in log.root.rglob("*")}
    assert sorted(found) == sorted(on_disk)
    for name, content in found.items():
        assert content == (None if on_disk[name].is_dir() else on_disk[name].read_bytes()), name
    assert sum(op.kind == "ack" for op in log.ops) == len(states) - 1 == 11


def test_the_simulation_finds_a_commit_that_is_not_synced(traced, memory_path):
    """Without its syncs the same log does lose acknowledged commits or damages the ledger."""
    log, states = traced
    ops = [op for op in log.ops if op.kind != "sync"]
    never = [len(ops)] * len(ops)
    bare = WriteLog(log.root, ops, log.directories)
    found = tree(bare, survivors(bare, never, len(ops), random.Random(1)))
    with pytest.raises((AssertionError, ValueError, OSError, RuntimeError)):
        check(found, memory_path / "disk", [states[-1]])


@pytest.mark.promise(1)
@pytest.mark.parametrize("step", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_between_any_two_system_calls_the_ledger_is_the_old_or_the_new_one(traced, memory_path, figure, step):
    log, states = traced
    kept = synced_at(log.ops)
    seen = set()
    points = range(0, len(log.ops) + 1, step)
    for crash in points:
        acks = sum(op.kind == "ack" for op in log.ops[:crash])
        found = tree(log, survivors(log, kept, crash, None))
        allowed = states[acks : acks + 2]
        key = digest(found, allowed)
        if key not in seen:
            seen.add(key)
            check(found, memory_path / "disk", allowed, go_on=len(seen) % 20 == 1)
    figure(f"11 commands in a row, replayed up to each of {len(points)} changing system calls: old or new state at all")


@pytest.mark.promise(2)
@pytest.mark.parametrize("trials", [60, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_loss_of_unsynced_writes_damages_the_ledger_or_loses_a_commit(traced, memory_path, figure, trials):
    log, states = traced
    kept = synced_at(log.ops)
    seen = set()
    for seed in range(trials):
        chance = random.Random(seed)
        crash = chance.randrange(len(log.ops) + 1)
        acks = sum(op.kind == "ack" for op in log.ops[:crash])
        found = tree(log, survivors(log, kept, crash, chance))
        # What had been acknowledged is there; the command under way has happened, or it has not.
        allowed = states[acks : acks + 2]
        key = digest(found, allowed)
        if key not in seen:
            seen.add(key)
            try:
                check(found, memory_path / "disk", allowed, go_on=len(seen) % 20 == 1)
            except BaseException as error:
                raise AssertionError(f"seed {seed}, crash after {crash} of {len(log.ops)} operations") from error
    figure(
        f"{trials:,} random losses ({len(seen):,} different disks) within {len(log.ops)} writes, renames and syncs of "
        "11 commands: none damaged, every acknowledged commit kept"
    )
