"""Who does what where several processes work on one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessShare:
    """One process's part of work that every process sees whole and divides in the same way.

    Attributes:
        rank: Which process this is, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} of {self.size} processes")

    def pick(self, costs: Sequence[float]) -> list[int]:
        """Which items are this process's, in order: the dearest first, each to whoever has least so far.

        Args:
            costs: What each item costs, in any unit.
        """
        loads = [0.0] * self.size
        mine = []
        for item in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
            owner = loads.index(min(loads))
            loads[owner] += costs[item]
            if owner == self.rank:
                mine.append(item)
        return sorted(mine)


WHOLE = ProcessShare()
"""The share of a process that works alone."""
