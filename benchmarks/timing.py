"""How the benchmarks measure: the best of several runs, by the clock and by the processor, and the peak of memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Cost:
    """What one call took.

    Attributes:
        seconds: By the clock, the least of all runs.
        cpu_seconds: By the processor, all threads and child processes together, the least of all runs: what the call
            would take on one idle core. On a machine that others use it says more than the clock.
    """

    seconds: float
    cpu_seconds: float

    def times(self, factor: float) -> Cost:
        """What so many times the work takes where the work is done piece by piece."""
        return Cost(self.seconds * factor, self.cpu_seconds * factor)


def measure(action: Callable[[], Any], repeats: int = 3) -> Cost:
    """The least cost of a call over some runs."""
    best = Cost(float("inf"), float("inf"))
    for _ in range(repeats):
        _finish_device()
        wall, cpu = time.perf_counter(), _cpu()
        action()
        _finish_device()
        cpu, wall = _cpu() - cpu, time.perf_counter() - wall
        best = Cost(min(best.seconds, wall), min(best.cpu_seconds, cpu))
    return best


def measure_both(action: Callable[[], Any], baseline: Callable[[], Any], repeats: int = 5) -> tuple[Cost, Cost]:
    """Two calls in turn, so that what else the machine does falls on both alike."""
    ours, theirs = Cost(float("inf"), float("inf")), Cost(float("inf"), float("inf"))
    for _ in range(repeats):
        theirs = _least(theirs, measure(baseline, 1))
        ours = _least(ours, measure(action, 1))
    return ours, theirs


def measure_between(action: Callable[[], Any], pieces: Sequence[Callable[[], Any]]) -> tuple[Cost, Cost]:
    """A call before, between and after the pieces of a baseline that is too long to be run more than once.

    Returns:
        The median of the call's runs, not the least, since the baseline has no second run; the sum of the pieces.
    """
    ours, theirs = [measure(action, 1)], []
    for piece in pieces:
        theirs.append(measure(piece, 1))
        ours.append(measure(action, 1))
    return (
        Cost(statistics.median(c.seconds for c in ours), statistics.median(c.cpu_seconds for c in ours)),
        Cost(sum(c.seconds for c in theirs), sum(c.cpu_seconds for c in theirs)),
    )


def peak_bytes() -> int:
    """The most memory this process has had so far."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: a child process starts with its parent's there, for Linux counts what exec replaced.
        for line in status.read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _finish_device() -> None:
    """Wait for what was given to an accelerator, which works on while the program goes on."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def _cpu() -> float:
    """Processor time of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _least(one: Cost, other: Cost) -> Cost:
    return Cost(min(one.seconds, other.seconds), min(one.cpu_seconds, other.cpu_seconds))
