"""What a search may still begin: a time budget, and what stages have taken, kept with the trials."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """Time for a search.

    Args:
        minutes: In all, from now on.
        seconds: Stage -> the longest that one of its kind has taken, in this call or those that it resumes; grows.
    """

    def __init__(self, minutes: float, seconds: dict[str, float]) -> None:
        self.end, self.seconds = time.monotonic() + 60 * minutes, seconds

    def allows(self, stage: str, otherwise: float = 0.0) -> bool:
        """Whether one more of a stage is expected to end in time, ``otherwise`` its seconds where none was made."""
        return time.monotonic() + self.seconds.get(stage, otherwise) <= self.end

    @contextmanager
    def taking(self, stage: str) -> Iterator[None]:
        """Notes how long a stage takes; one that was on disk takes less than was noted, and so changes nothing."""
        begun = time.monotonic()
        yield
        self.seconds[stage] = max(self.seconds.get(stage, 0.0), time.monotonic() - begun)
