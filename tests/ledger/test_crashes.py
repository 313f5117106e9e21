"""Writers that are killed, and writers side by side. Children are forked, so that each costs milliseconds."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from ledger import Conflict, Ledger
from tests.ledger.helpers import MODEL, build_adapter, build_base

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

WATCHED = ("open", "os.", "shutil.", "tempfile.", "sqlite3.")
SAMPLE = 25


def start(action: Callable[[], None]) -> int:
    """Run in a forked child; its process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return pid


def wait(pids: list[int]) -> list[int]:
    """Exit statuses of children; negative for a signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def in_child(action: Callable[[], None]) -> int:
    """Run in a forked child to its end; the exit status, negative for a signal."""
    return wait([start(action)])[0]


def kill_at(number: int, action: Callable[[], None], counter: Path | None = None) -> None:
    """Run an action that dies by SIGKILL at its call ``number`` into file system or database (0: never)."""
    calls = 0

    def step(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, _: tuple[object, ...]) -> None:
        if name.startswith(WATCHED):
            step()

    fsync, write = os.fsync, Path.write_bytes
    os.fsync = lambda descriptor: (step(), fsync(descriptor), step())[1]  # type: ignore[assignment]
    Path.write_bytes = lambda path, data: (write(path, data), step())[0]  # type: ignore[method-assign]
    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "after_cursor_execute", step)
    event.listen(Engine, "commit", step)
    event.listen(Pool, "checkin", step)  # the first call after a commit
    event.listen(Pool, "close", step)
    sys.addaudithook(audit)
    action()
    if counter is not None:
        counter.write_text(str(calls))


def append(place: Path) -> None:
    with Ledger.open(place) as ledger:
        ledger.append(build_adapter(9), scores={"counterfact": {"ES": 1}})


def revert(place: Path) -> None:
    with Ledger.open(place) as ledger:
        ledger.revert("HEAD~1")


@pytest.mark.parametrize("sample", [SAMPLE, pytest.param(10**6, marks=pytest.mark.slow, id="all")])
@pytest.mark.parametrize("action", [append, revert])
def test_killed_at_any_call_head_is_old_or_new_and_verify_finds_no_damage(filled, place, tmp_path, action, sample):
    filled.close()
    pristine = tmp_path / "pristine"
    shutil.copytree(place, pristine)
    assert in_child(lambda: kill_at(0, lambda: action(place), tmp_path / "count")) == 0
    total = int((tmp_path / "count").read_text())
    assert total > 20
    with Ledger.open(place) as ledger:
        after_entries, after = len(ledger.log()), ledger.compose(build_base())
    with Ledger.open(pristine) as ledger:
        before_entries, before = len(ledger.log()), ledger.compose(build_base())
    outcomes = set()
    points = sorted({*random.Random(0).sample(range(1, total + 1), min(sample, total)), total})
    for point in points:
        shutil.rmtree(place)
        shutil.copytree(pristine, place)
        assert in_child(lambda point=point: kill_at(point, lambda: action(place))) == -signal.SIGKILL, point
        with Ledger.open(place) as ledger:
            assert [p for p in ledger.verify() if p.damage] == [], point
            state, entries = ledger.compose(build_base()), len(ledger.log())
            expected = {before_entries: before, after_entries: after}[entries]
            assert all(torch.equal(state[name], expected[name]) for name in state), point
            outcomes.add(entries)
            # Nothing that was left behind is in the way of the next writer.
            if entries == before_entries:
                action(place)
                assert len(ledger.log()) == after_entries
                assert [p for p in ledger.verify() if p.damage] == []
    assert outcomes == {before_entries, after_entries}, "the sample must hold kills before and after the commit"


def test_a_crash_between_object_and_entry_leaves_an_orphan_only(filled, place):
    head = filled.head()
    filled.close()

    def crash() -> None:
        with Ledger.open(place) as ledger:
            put = ledger.store.put
            ledger.store.put = lambda *a: (put(*a), os.kill(os.getpid(), signal.SIGKILL))[0]  # type: ignore[method-assign]
            ledger.append(build_adapter(9))

    assert in_child(crash) == -signal.SIGKILL
    with Ledger.open(place) as ledger:
        assert ledger.head() == head
        assert [(p.code, p.damage) for p in ledger.verify()] == [("orphan-object", False)]
        ledger.append(build_adapter(9))
        assert ledger.verify() == []


def test_creation_killed_at_any_call_can_be_repeated(tmp_path):
    assert in_child(lambda: kill_at(0, lambda: Ledger.create(tmp_path / "x", MODEL).close(), tmp_path / "count")) == 0
    total = int((tmp_path / "count").read_text())
    for point in sorted(random.Random(1).sample(range(1, total + 1), min(15, total))):
        place = tmp_path / f"ledger-{point}"
        child = in_child(lambda place=place, point=point: kill_at(point, lambda: Ledger.create(place, MODEL).close()))
        assert child == -signal.SIGKILL
        try:
            ledger = Ledger.open(place)
        except ValueError:
            ledger = Ledger.create(place, MODEL)
        with ledger:
            assert len(ledger.log()) == 1
            assert ledger.verify() == []


def test_appends_of_several_processes_are_all_kept(ledger, place):
    ledger.close()
    processes, commits = 3, 5

    def work(first: int) -> None:
        with Ledger.open(place) as mine:
            for seed in range(first, first + commits):
                mine.append(build_adapter(seed))

    assert wait([start(lambda n=n: work(100 * n)) for n in range(processes)]) == [0] * processes
    with Ledger.open(place) as after:
        assert len(after.log()) == 1 + processes * commits
        assert len({e.adapter for e in after.active()}) == processes * commits
        assert after.verify() == []


def test_of_two_processes_that_append_on_one_head_one_gets_a_conflict(ledger, place):
    head = ledger.head()
    ledger.close()
    read, write = os.pipe()

    def work(seed: int) -> None:
        os.close(write)
        os.read(read, 1)  # both begin when the parent closes the pipe
        with Ledger.open(place) as mine:
            try:
                mine.append(build_adapter(seed), parent=head)
            except Conflict:
                os._exit(7)

    pids = [start(lambda seed=seed: work(seed)) for seed in (1, 2)]
    os.close(write)
    os.close(read)
    assert sorted(wait(pids)) == [0, 7]
    with Ledger.open(place) as after:
        assert len(after.log()) == 2
        assert [p for p in after.verify() if p.damage] == []


def test_a_writer_killed_while_it_holds_the_lock_blocks_nobody(ledger, place):
    def hold() -> None:
        with Ledger.open(place) as mine, mine.database.write() as connection:
            connection.exec_driver_sql("UPDATE refs SET entry = NULL WHERE name = 'main'")
            os.kill(os.getpid(), signal.SIGKILL)

    head = ledger.head()
    ledger.close()
    assert in_child(hold) == -signal.SIGKILL
    with Ledger.open(place) as after:
        assert after.head() == head
        after.append(build_adapter(1))
        assert after.verify() == []
