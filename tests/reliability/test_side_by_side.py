"""Row 6: readers never see half a write. (Row 5, concurrent writers: tests/ledger/test_concurrency.py.)"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.upkeep.gc import collect
from tests.ledger.helpers import build_adapter, build_base
from tests.reliability.commands import damage
from tests.reliability.processes import start, stop, wait

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def _write(place: Path, until: float) -> None:
    """Appends with two scores each, reverts, and garbage that is collected."""
    with Ledger.open(place) as ledger:
        seed = 0
        while time.monotonic() < until:
            seed += 1
            ledger.append(build_adapter(seed), scores={"counterfact": {"ES": seed, "PS": seed}})
            if seed % 3 == 0:
                ledger.revert("HEAD~1")
            if seed % 5 == 0:
                ledger.start_branch("aside", "HEAD~2")
                ledger.append(build_adapter(100_000 + seed), branch="aside")
                ledger.delete_branch("aside")
                collect(ledger.database, ledger.store, keep_days=None, grace=0)


def _read(place: Path, until: float, count: Path) -> None:
    reads = 0
    longest = 0
    while time.monotonic() < until:
        with Ledger.open(place) as ledger:
            head = ledger.head()
            log = ledger.log(head)
            assert log[0].id == head
            assert log[-1].operation == "root"
            assert all(newer.parents[0] == older.id for newer, older in itertools.pairwise(log))
            assert len(log) >= longest, "history went back"
            longest = len(log)
            for row in ledger.log_rows(head, limit=3):
                scores = row["scores"].get("counterfact", {})
                assert not scores or scores["ES"] == scores["PS"], "scores of half a commit"
            if reads % 10 == 0:
                ledger.compose(build_base(), head)
                assert [p for p in ledger.verify(deep=False) if p.damage] == []
        reads += 1
    count.write_text(str(reads))


@pytest.mark.promise(6)
@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_readers_during_writes_see_whole_commits_only(ledger, place, tmp_path, figure, seconds):
    ledger.append(build_adapter(0))
    ledger.close()
    until = time.monotonic() + seconds
    writer = start(lambda: _write(place, until))
    readers = [start(lambda n=n: _read(place, until, tmp_path / f"reads-{n}")) for n in range(2)]
    try:
        statuses = wait([writer, *readers])
    except BaseException:
        stop([writer, *readers])
        raise
    assert statuses == [0, 0, 0]
    reads = sum(int((tmp_path / f"reads-{n}").read_text()) for n in range(2))
    with Ledger.open(place) as after:
        commits = len(after.log()) - 2
    assert reads > 0
    assert commits > 0
    assert damage(place.parent) == []
    figure(
        f"{reads:,} reads by 2 readers during {commits:,} commits and their garbage collections in {seconds} s, 0 torn"
    )
