"""Row 8: full disk, I/O errors, short writes. Each goes through the command line's entry point."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer

from ledger import Code, Ledger
from seqedit.cli.app import app
from seqedit.cli.main import run
from tests.ledger.helpers import MODEL, TIME, build_adapter
from tests.reliability.commands import damage, observe
from tests.reliability.processes import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def exit_code(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of a command line that does this."""
    monkeypatch.setattr(typer.main, "get_command", lambda _: _Command(act))
    return run([])


class _Command:
    """Stands for the parsed command line: what `seqedit.cli.main` asks of it."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def make_context(self, *_: object, **__: object) -> AbstractContextManager[None]:
        return nullcontext()

    def invoke(self, context: None) -> None:
        self.act()


def writing(place: Path) -> dict[str, Callable[[], object]]:
    """Writing commands, by name."""

    def on(act: Callable[[Ledger], object]) -> Callable[[], object]:
        def run_it() -> None:
            with Ledger.open(place) as ledger:
                act(ledger)

        return run_it

    return {
        "append": on(lambda x: x.append(build_adapter(9), time=TIME, scores={"counterfact": {"ES": 1}})),
        "revert": on(lambda x: x.revert("HEAD", time=TIME)),
        "add_scores": on(lambda x: x.add_scores("HEAD", "samples", {"all": "x" * 20_000})),
        "start_branch": on(lambda x: x.start_branch("new")),
    }


def check_old(place: Path, before: object) -> None:
    """The old state, sound, and no temporary files; at most a whole object that no entry uses yet, for the retry."""
    assert observe(place.parent, weights=False) == before
    with Ledger.open(place) as ledger:
        assert {problem.code for problem in ledger.verify()} <= {Code.ORPHAN_OBJECT}
    assert not list((place / "objects").glob("tmp/*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB in memory."""
    directory = tmp_path / "small"
    directory.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or libc.mount(b"tmpfs", bytes(directory), b"tmpfs", 0, b"size=1m") != 0:
        pytest.skip(f"cannot mount a tmpfs: {os.strerror(ctypes.get_errno())}")
    yield directory
    libc.umount2(bytes(directory), 2)


@pytest.mark.promise(8)
@pytest.mark.parametrize("step", [24, pytest.param(8, marks=pytest.mark.slow)])
def test_a_full_disk_leaves_the_old_state_and_exit_code_3(small_disk, monkeypatch, capfd, figure, step):
    place = small_disk / "ledger"
    with Ledger.create(place, MODEL, time=TIME) as ledger:
        ledger.append(build_adapter(1), time=TIME)
    before = observe(small_disk, weights=False)
    full, done = 0, 0
    for name, act in writing(place).items():
        for free in range(0, 130, step):
            disk = os.statvfs(small_disk)
            filler = small_disk / "filler"
            filler.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - free * 1024)))
            code = exit_code(act, monkeypatch)
            filler.unlink()
            if code == 0:
                done += 1
                break  # with more room it works all the more
            assert code == 3, (name, free, capfd.readouterr().err)
            check_old(place, before)
            full += 1
        else:
            pytest.fail(f"{name} never had room enough")
        shutil.rmtree(place)
        with Ledger.create(place, MODEL, time=TIME) as ledger:
            ledger.append(build_adapter(1), time=TIME)
    assert full >= done == len(writing(place))
    figure(f"full disk (tmpfs): {full} commands ended with exit code 3 and the old state, {done} with room succeeded")


@pytest.mark.promise(8)
@pytest.mark.parametrize("step", [8192, pytest.param(1024, marks=pytest.mark.slow)])
def test_a_short_write_leaves_the_old_state_and_exit_code_3(filled, place, monkeypatch, figure, step):
    filled.close()
    before = observe(place.parent, weights=False)
    size = (place / "ledger.db").stat().st_size
    short = 0
    for name, act in writing(place).items():
        for limit in range(0, size + 65536, step):

            def limited(limit: int = limit, act: Callable[[], object] = act) -> None:
                sys.stdout = sys.stderr = io.StringIO()  # messages must not meet the limit
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then returns short, or EFBIG
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                code = exit_code(act, monkeypatch)
                os._exit(10 + code)

            code = in_child(limited) - 10
            if code == 0:
                break
            assert code == 3, (name, limit)
            check_old(place, before)
            short += 1
        else:
            pytest.fail(f"{name} never had room enough")
        shutil.rmtree(place)
        with Ledger.create(place, MODEL, time=TIME) as ledger:
            for seed in range(3):
                ledger.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
    assert short > 0
    figure(f"short writes (RLIMIT_FSIZE): {short} commands ended with exit code 3 and the old state")


CALLS = ("fsync", "rename", "mkdir", "open")


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    "calls", [CALLS[:1], CALLS[1:2], pytest.param(CALLS, marks=pytest.mark.slow)], ids=lambda calls: "-".join(calls)
)
def test_each_call_that_fails_in_turn_leaves_the_old_state(filled, place, memory_path, monkeypatch, figure, calls):
    filled.close()
    pristine, work = memory_path / "pristine", memory_path / "work"
    shutil.copytree(place, pristine / "ledger")
    failed = sum(_fail_each(pristine, work, monkeypatch, call) for call in calls)
    assert failed > 0
    figure(f"I/O errors: each of {failed} calls of {', '.join(calls)} failed in turn: exit code 3 and the old state")


def _fail_each(pristine: Path, work: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> int:
    """How many calls of a command that appends could be made to fail, so that the command did."""
    before, real = observe(pristine, weights=False), getattr(os, call)
    number = failed = 0
    while True:
        number += 1
        calls = 0
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(pristine, work)

        def failing(*args: Any, number: int = number, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(args[0]))
            return real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            code = exit_code(writing(work / "ledger")["append"], patch)
        assert code in (0, 3)
        if code == 3:
            failed += 1
            check_old(work / "ledger", before)
        assert damage(work) == []
        if calls < number:
            assert code == 0
            return failed


def test_the_command_line_is_the_one_that_users_call():
    """`exit_code` puts an action in the place of the commands; the rest of `run` is the real one."""
    assert app.info.name == "seqedit"
