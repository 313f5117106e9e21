"""Several processes that write one ledger: nothing is lost, and who comes second is told. On both databases."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

import pytest

from ledger import Conflict, Ledger
from ledger.database import rows
from ledger.database.database import keep_write_ahead_log
from seqedit.errors import InputError
from tests.ledger.database.databases import create
from tests.ledger.helpers import build_adapter
from tests.reliability.processes import start, wait


def together(actions: list[Callable[[], None]]) -> list[int]:
    """Run actions in processes that begin at the same time; their exit statuses."""
    read, write = os.pipe()

    def at_the_signal(action: Callable[[], None]) -> None:
        os.close(write)
        os.read(read, 1)  # returns when the parent closes the pipe
        action()

    pids = [start(lambda action=action: at_the_signal(action)) for action in actions]
    os.close(write)
    os.close(read)
    return wait(pids)


def test_who_loses_the_race_gets_a_conflict_and_succeeds_on_the_new_head(ledger, place, tmp_path):
    head = ledger.head()
    ledger.close()

    def work(seed: int) -> None:
        with Ledger.open(place) as mine:
            try:
                mine.append(build_adapter(seed), parent=head)
                return
            except Conflict as error:
                conflict = error
            assert (conflict.ref, conflict.expected) == ("main", head)
            assert conflict.found == mine.head() != head
            mine.append(build_adapter(seed), parent=conflict.found)
            (tmp_path / f"conflict-{seed}").touch()

    for round_ in range(3):
        seeds = [10 * round_ + 1, 10 * round_ + 2]
        assert together([lambda seed=seed: work(seed) for seed in seeds]) == [0, 0]
        with Ledger.open(place) as after:
            log = after.log()
            assert len(log) == 3 + 2 * round_
            assert {entry.adapter for entry in log[:2]} == {build_adapter(seed).digest for seed in seeds}
            assert [p for p in after.verify() if p.damage] == []
            head = after.head()
        assert len(list(tmp_path.glob("conflict-*"))) == round_ + 1


@pytest.mark.promise(5)
@pytest.mark.parametrize(("processes", "commits"), [(4, 6), pytest.param(8, 50, marks=pytest.mark.slow)])
def test_no_append_is_lost_whatever_the_order(ledger, place, processes, commits):
    ledger.close()

    def work(first: int) -> None:
        with Ledger.open(place) as mine:
            for seed in range(first, first + commits):
                mine.append(build_adapter(seed), message=str(first), scores={"counterfact": {"ES": seed}})

    firsts = [1000 * n for n in range(1, processes + 1)]
    assert together([lambda first=first: work(first) for first in firsts]) == [0] * processes
    with Ledger.open(place) as after:
        log = after.log()[::-1]
        assert len(log) == 1 + processes * commits
        assert {e.adapter for e in log[1:]} == {build_adapter(f + n).digest for f in firsts for n in range(commits)}
        for first in firsts:  # each writer's entries in the order in which it wrote them
            expected = [build_adapter(first + n).digest for n in range(commits)]
            assert [entry.adapter for entry in log if entry.message == str(first)] == expected
        assert after.verify() == []


def test_branches_of_one_name_are_started_once(ledger, place):
    ledger.close()

    def work() -> None:
        with Ledger.open(place) as mine:
            try:
                mine.start_branch("same")
            except InputError as error:
                os._exit(7 if "is there already" in str(error) else 1)

    assert sorted(together([work, work, work])) == [0, 7, 7]
    with Ledger.open(place) as after:
        assert after.verify() == []


def test_ledgers_at_one_place_are_created_once(place):
    def work() -> None:
        try:
            create(place).close()
        except InputError as error:
            os._exit(7 if "holds a ledger already" in str(error) else 1)

    assert sorted(together([work, work, work])) == [0, 7, 7]
    with Ledger.open(place) as after:
        assert len(after.log()) == 1
        assert after.verify() == []


class LockedCursor:
    """A cursor of a file that somebody else is just switching to a write-ahead log."""

    def __init__(self, refusals: int, said: str = "database is locked") -> None:
        self.refusals, self.said, self.asked = refusals, said, 0

    def execute(self, statement: str) -> None:
        self.asked += 1
        if self.asked <= self.refusals:
            raise sqlite3.OperationalError(self.said)


def test_creating_waits_for_another_process_that_is_creating_the_same_file():
    cursor = LockedCursor(3)
    keep_write_ahead_log(cursor)
    assert cursor.asked == 4
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        keep_write_ahead_log(LockedCursor(10**9), patience=0.05)
    other = LockedCursor(1, "disk I/O error")
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        keep_write_ahead_log(other)
    assert other.asked == 1


def test_a_reader_sees_one_state_while_others_write(ledger, place):
    """Within one transaction nothing changes, whatever is committed meanwhile."""
    with Ledger.open(place) as other, ledger.database.read() as connection:
        before = rows.head(connection)[1], set(rows.load_nodes(connection))
        made = other.append(build_adapter(1))
        assert (rows.head(connection)[1], set(rows.load_nodes(connection))) == before
    assert ledger.head() == made.id
