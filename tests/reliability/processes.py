"""Children of a test. They are forked, so that each costs milliseconds and needs no pickling."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

WATCHED = ("open", "os.", "shutil.", "tempfile.", "sqlite3.")
NOBODY = 65534


def start(action: Callable[[], object]) -> int:
    """Run in a forked child; its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # The pool of OpenMP's threads is the parent's: a child that uses it crashes or hangs.
            torch.set_num_threads(1)
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return pid


def wait(pids: list[int]) -> list[int]:
    """Exit statuses of children; negative for a signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def in_child(action: Callable[[], object]) -> int:
    """Run in a forked child to its end; the exit status, negative for a signal."""
    return wait([start(action)])[0]


def stop(pids: list[int]) -> None:
    """Kill children that still run, and collect them."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait(pids)


def as_nobody() -> None:
    """Give up the superuser's rights, whom permissions do not bind."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def kill_at(number: int, action: Callable[[], object], counter: Path | None = None) -> None:
    """Run an action that dies by SIGKILL at its call ``number`` into file system or database.

    Args:
        number: From 1; 0 for never.
        action: What to run.
        counter: File to write the number of calls to.
    """
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
