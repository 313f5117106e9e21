"""Row 17: gc removes nothing that is reachable, and everything else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ledger import Ledger
from seqedit.errors import InputError
from seqedit.support.digests import tensors_digest
from tests.ledger.helpers import MODEL, build_adapter, build_base


def _litter(ledger: Ledger, chance: random.Random) -> None:
    """A random history with branches, some of which are reset or deleted."""
    for seed in range(chance.randrange(6, 14)):
        act = chance.choice(["edit", "edit", "edit", "revert", "swap", "branch", "reset", "delete"])
        try:
            if act == "edit":
                ledger.append(build_adapter(seed))
            elif act == "revert":
                ledger.revert(chance.choice(ledger.log()).id)
            elif act == "swap":
                ledger.append(build_adapter(seed), operation="swap", targets=[chance.choice(ledger.active()).id])
            elif act == "branch":
                ledger.start_branch(f"b{seed}", chance.choice(ledger.log()).id)
                ledger.switch(f"b{seed}")
            elif act == "reset":
                ledger.reset(chance.choice(ledger.log()).id)
            else:
                ledger.delete_branch(chance.choice(sorted(ledger.branches())))
        except (InputError, IndexError):
            continue  # nothing to swap, a revert without effect, the branch HEAD is on


def _reachable(ledger: Ledger) -> set[str]:
    """By the entries' own content, from every branch, through parents and targets."""
    found: set[str] = set()
    waiting = list(ledger.branches().values())
    while waiting:
        entry = ledger.entry(waiting.pop())
        if entry.id not in found:
            found.add(entry.id)
            waiting += [*entry.parents, *entry.targets]
    return found


def _all(ledger: Ledger) -> set[str]:
    with ledger.database.read() as connection:
        return set(connection.exec_driver_sql("SELECT id FROM entries").scalars())


@pytest.mark.promise(17)
@pytest.mark.parametrize("histories", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_a_collection_removes_what_nothing_reaches_and_nothing_else(memory_path: Path, figure, histories):
    removed = kept = 0
    for number in range(histories):
        with Ledger.create(memory_path / f"ledger-{number}", MODEL) as ledger:
            _litter(ledger, random.Random(number))
            reachable, everything = _reachable(ledger), _all(ledger)
            weights = {entry: tensors_digest(ledger.compose(build_base(), entry)) for entry in reachable}
            adapters = {ledger.entry(entry).adapter for entry in reachable} - {None}
            assert ledger.gc(grace=0).entries == (), "the reflog leads to all of it"
            found = ledger.gc(keep_days=None, grace=0)
            assert {entry.id for entry in found.entries} == everything - reachable
            assert _all(ledger) == reachable
            assert {path.rpartition("/")[2] for path in ledger.store.objects()} == adapters
            assert {e: tensors_digest(ledger.compose(build_base(), e)) for e in reachable} == weights
            assert ledger.verify() == []
            again = ledger.gc(keep_days=None, grace=0)
            assert (again.entries, again.objects, again.temporary) == ((), (), ())
            removed, kept = removed + len(found.entries), kept + len(reachable)
    assert removed > 0
    figure(
        f"{histories} random histories: {removed:,} unreachable entries removed, {kept:,} reachable ones kept bit for "
        "bit, a second gc found nothing"
    )
