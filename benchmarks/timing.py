"""How the benchmarks measure: the best of several runs, by the clock and by the processor, and the peak of memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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


def measure(action: Callable[[], Any], repeats: int = 3) -> Cost:
    """The least cost of a call over some runs."""
    best = Cost(float("inf"), float("inf"))
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), _cpu()
        action()
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


def peak_bytes() -> int:
    """The most memory this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpu() -> float:
    """Processor time of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _least(one: Cost, other: Cost) -> Cost:
    return Cost(min(one.seconds, other.seconds), min(one.cpu_seconds, other.cpu_seconds))
