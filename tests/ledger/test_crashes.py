"""Writers that are killed, and writers side by side. Kills at every call: tests/reliability/test_kills.py."""

from __future__ import annotations

import os
import signal

import pytest

from ledger import Conflict, Ledger
from tests.ledger.helpers import build_adapter
from tests.reliability.processes import in_child, start, wait

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


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
