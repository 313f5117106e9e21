"""Looking again and again: the level of one look, so that all looks of a run together keep a promise.

A run is tested after every step. At 5 % each, 40 looks at an unharmed model raise at least one false alarm far more
often than in 5 % of the runs. Spending the 5 % over the looks keeps it: by the union bound the chance of any false
alarm is at most the sum of the chances, however the looks depend on each other, and whenever one stops.
"""

from __future__ import annotations

from math import pi

from seqedit.errors import InputError


def look_level(look: int, looks: int | None = None, *, level: float = 0.95, comparisons: int = 1) -> float:
    """Level of the intervals at one look of a run.

    With it as ``level`` of the intervals at every look, all of them together hold their true values with probability
    at least ``level``. A test of one look rejects where its p-value is below 1 - the returned level.

    Args:
        look: Which look this is, from 1.
        looks: How many looks there will be, each of which gets the same share (Bonferroni); None where that is not
            known: look t then gets the share 6 / (pi t)^2, which add up to 1 over all t.
        level: What all looks keep together.
        comparisons: How many intervals are looked at each time, e.g. the number of tasks.

    Raises:
        InputError: a number is out of range.
    """
    if look < 1 or comparisons < 1 or (looks is not None and look > looks):
        raise InputError(f"look {look} of {looks} with {comparisons} comparisons: looks and comparisons count from 1")
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level}")
    share = 6 / (pi * look) ** 2 if looks is None else 1 / looks
    return 1 - (1 - level) * share / comparisons
