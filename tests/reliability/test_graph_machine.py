"""Row 15: a state machine does whatever a ledger can do, and what every entry meant stays what it was."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from ledger import Ledger
from seqedit.errors import InputError
from tests.ledger.helpers import MODEL, TIME, build_adapter

ROOM = "/dev/shm" if Path("/dev/shm").is_dir() else None
steps = 0


class Machine(RuleBasedStateMachine):
    """A ledger next to a plain record of what was active when each entry was made."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=ROOM))
        self.ledger = Ledger.create(self.directory / "ledger", MODEL)
        self.seeds = itertools.count()
        self.meant: dict[str, list[str]] = {self.ledger.head(): []}
        self.sign = 0

    def teardown(self) -> None:
        assert [p for p in self.ledger.verify(deep=False) if p.damage] == []
        self.ledger.close()
        shutil.rmtree(self.directory)

    def active(self, rev: str = "HEAD") -> list[str]:
        return [str(entry.adapter) for entry in self.ledger.active(rev)]

    def made(self, before: list[str], expected: list[str] | None = None) -> None:
        """Note what a new entry means, and compare all that others meant."""
        global steps
        steps += 1
        now = self.active()
        if expected is not None:
            assert now == expected
        self.meant.setdefault(self.ledger.head(), now)
        for entry in {*self.ledger.branches().values(), self.ledger.head()}:
            assert self.active(entry) == self.meant[entry], "an entry means something else than when it was made"
        assert len(set(now)) == len(now), "an adapter is active twice"

    @initialize()
    def edit_first(self) -> None:
        self.edit()

    @rule()
    def edit(self) -> None:
        before, adapter = self.active(), build_adapter(next(self.seeds))
        self.ledger.append(adapter)
        self.made(before, [*before, adapter.digest])

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def swap(self, data: Any) -> None:
        before, adapter = self.active(), build_adapter(next(self.seeds))
        place = data.draw(st.integers(0, len(before) - 1))
        self.ledger.append(adapter, operation="swap", targets=[self.ledger.active()[place].id])
        self.made(before, [*before[:place], adapter.digest, *before[place + 1 :]])

    @precondition(lambda self: len(self.active()) > 1)
    @rule(data=st.data())
    def merge(self, data: Any) -> None:
        before, adapter = self.active(), build_adapter(next(self.seeds))
        chosen = data.draw(st.sets(st.integers(0, len(before) - 1), min_size=2))
        entries = self.ledger.active()
        self.ledger.append(adapter, operation="merge", targets=[entries[place].id for place in chosen])
        last = max(chosen)
        expected = [adapter.digest if n == last else a for n, a in enumerate(before) if n == last or n not in chosen]
        self.made(before, expected)

    @rule(data=st.data())
    def revert(self, data: Any) -> None:
        before = self.active()
        target = data.draw(st.sampled_from([entry.id for entry in self.ledger.log()]))
        head = self.ledger.head()
        try:
            made = self.ledger.revert(target)
        except InputError:
            assert self.ledger.head() == head
            assert self.active() == before
            return
        if target == head:  # what came last is undone exactly
            assert self.active() == self.meant[self.ledger.log()[2].id]
        self.made(before)
        assert self.active() != before
        self.ledger.revert(made.id)
        self.made(before, before)

    @rule(data=st.data())
    def start_branch_and_switch(self, data: Any) -> None:
        name = f"branch-{next(self.seeds)}"
        start = data.draw(st.sampled_from([entry.id for entry in self.ledger.log()]))
        self.ledger.start_branch(name, start)
        self.ledger.switch(name)
        self.made([], self.meant[start])

    @rule(data=st.data())
    def switch(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.ledger.branches())))
        self.ledger.switch(name)
        self.made([], self.meant[self.ledger.branches()[name]])

    @precondition(lambda self: len(self.ledger.branches()) > 1)
    @rule(data=st.data())
    def delete_branch(self, data: Any) -> None:
        others = sorted(set(self.ledger.branches()) - {self.ledger.branch()})
        self.ledger.delete_branch(data.draw(st.sampled_from(others)))
        self.made([])

    @rule(data=st.data())
    def reset_and_undo(self, data: Any) -> None:
        head = self.ledger.head()
        target = data.draw(st.sampled_from([entry.id for entry in self.ledger.log()]))
        self.ledger.reset(target)
        self.made([], self.meant[target])
        if data.draw(st.booleans()):
            self.ledger.undo()
            assert self.ledger.head() == head
            self.made([], self.meant[head])

    @rule()
    def garbage(self) -> None:
        branches = self.ledger.branches()
        self.ledger.gc(keep_days=None, grace=0)
        assert self.ledger.branches() == branches
        self.made([])
        again = self.ledger.gc(keep_days=None, grace=0)
        assert (again.entries, again.objects, again.temporary) == ((), (), ())


@pytest.mark.promise(15)
@pytest.mark.parametrize("examples", [4, pytest.param(500, marks=pytest.mark.slow)])
def test_the_laws_of_the_graph_hold_whatever_is_done(figure, examples):
    global steps
    steps = 0
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert steps > 10 * examples
    if examples >= 500:
        assert steps >= 10_000
    figure(f"{steps:,} checked operations in {examples} histories on a real ledger, 0 failures")


def test_an_entry_that_is_made_again_after_a_reset_is_the_same_entry(filled):
    """Same content, same second, same id."""
    first = filled.append(build_adapter(9), time=TIME)
    filled.reset("HEAD~1")
    assert filled.append(build_adapter(9), time=TIME, scores={"counterfact": {"ES": 1}}) == first
    assert filled.head() == first.id
    assert filled.scores(first.id) == {"counterfact": {"ES": 1}}
    assert filled.verify() == []
