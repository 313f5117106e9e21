"""Row 1: every writing command, killed at every call into file system or database. Row 7: killed lock holders."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import statistics
import time
from pathlib import Path

import pytest

from ledger import Ledger
from tests.ledger.helpers import build_adapter
from tests.reliability.commands import COMMANDS, Command, damage, observe, prepare
from tests.reliability.processes import in_child, kill_at, start, wait

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SAMPLE = 6
MIXED = {"import as a new ledger"}
"""Made of two commits: the ledger, then its entries; between them lies a ledger with the root alone."""


@pytest.mark.promise(1)
@pytest.mark.parametrize("sample", [SAMPLE, pytest.param(None, marks=pytest.mark.slow, id="all")])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name.replace(" ", "-"))
def test_killed_at_any_call_the_ledger_is_the_old_or_the_new_one(command: Command, sample, memory_path, figure):
    pristine, work = memory_path / "pristine", memory_path / "work"
    prepare(pristine, empty=command.empty)
    shutil.copytree(pristine, work)
    command.act(work)  # in this process, so that its children need not load modules, and all make the same calls
    before, after = observe(pristine), observe(work)
    assert before != after
    _again(pristine, work)
    assert in_child(lambda: kill_at(0, lambda: command.act(work), memory_path / "count")) == 0
    total = int((memory_path / "count").read_text())
    assert total > 20
    points = range(1, total + 1)
    if sample is not None:
        # The last call comes after the commit, so both outcomes are met.
        points = sorted({*random.Random(0).sample(points, sample), 1, total})
    untouched = content(pristine)
    seen = {untouched: "old"}
    outcomes = {"old": 0, "new": 0, "between": 0}
    _again(pristine, work)
    for point in points:
        assert in_child(lambda point=point: kill_at(point, lambda: command.act(work))) == -signal.SIGKILL, point
        left = content(work)
        if left not in seen:  # reading calls leave what the call before them left
            seen[left] = _check(command, work, before, after, point)
        outcomes[seen[left]] += 1
        if left != untouched:
            _again(pristine, work)
    assert outcomes["old"] > 0
    assert outcomes["new"] > 0
    figure(
        f"{command.name}: killed at {len(points)} of {total} calls ({len(seen)} different states of the disk): "
        f"{outcomes['old']} old, {outcomes['new']} new"
        + (f", {outcomes['between']} between" * bool(outcomes["between"]))
    )


def _again(pristine: Path, work: Path) -> None:
    shutil.rmtree(work)
    shutil.copytree(pristine, work)


def content(directory: Path) -> str:
    """Digest of all files and their names; the random part of temporary names does not count."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        name = re.sub(r"(tmp/[0-9a-z]+-)[^/]+", r"\1", str(path.relative_to(directory)))
        digest.update(f"{name}\0{path.is_dir()}\0".encode() + (b"" if path.is_dir() else path.read_bytes()))
    return digest.hexdigest()


def _check(command: Command, work: Path, before: object, after: object, point: int) -> str:
    """The outcome of a kill; fails where it is none that was promised, or the next command does not work."""
    found = observe(work)
    if found is not None:
        assert damage(work) == [], point
    outcome = "old" if found == before else "new" if found == after else "between"
    if outcome == "between":
        assert command.name in MIXED, point
        assert found is not None
        assert found["entries"] == [found["branches"]["main"]], point
    # Nothing that was left behind is in the way of the next command.
    if outcome != "new":
        command.act(work)
        assert observe(work) == after, point
    else:
        with Ledger.open(work / "ledger") as ledger:
            ledger.append(build_adapter(50))
    assert damage(work) == [], point
    return outcome


@pytest.mark.promise(7)
@pytest.mark.parametrize("repeats", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_killed_lock_holder_keeps_the_next_command_waiting_less_than_a_second(filled, place, figure, repeats):
    head = filled.head()
    filled.close()
    times = []
    for number in range(repeats):
        held, hold = os.pipe()

        def work(write: int = hold) -> None:
            with Ledger.open(place) as mine, mine.database.write() as connection:
                connection.exec_driver_sql("UPDATE refs SET entry = NULL WHERE name = 'main'")
                os.write(write, b"x")
                time.sleep(60)

        pid = start(work)
        assert os.read(held, 1) == b"x"
        os.kill(pid, signal.SIGKILL)
        # Not waited for: the next command comes at once, as from another shell.
        begun = time.perf_counter()
        with Ledger.open(place) as after:
            assert after.head() == head
            after.add_scores("HEAD", "counterfact", {"ES": number})
        times.append(time.perf_counter() - begun)
        assert wait([pid]) == [-signal.SIGKILL]
        os.close(held)
        os.close(hold)
    # A machine that is busy otherwise may make single commands slow; a lock that is still held makes all of them wait
    # for a minute.
    assert statistics.median(times) < 1
    assert max(times) < 10
    assert damage(Path(place).parent) == []
    figure(
        f"{repeats} killed holders of the write lock, the next command took "
        f"{statistics.median(times) * 1000:.0f} ms (median), at most {max(times) * 1000:.0f} ms"
    )
