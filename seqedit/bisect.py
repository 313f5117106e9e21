"""Bisection of a history: after which entry did a metric fall, measuring as few states as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seqedit.errors import InputError


@dataclass(frozen=True)
class Found:
    """Result of a bisection.

    Attributes:
        first_bad: Id of the first entry whose state is bad.
        last_good: Id of the entry before it.
        values: Entry id -> value of every state that was looked at, in that order.
        threshold: Values beyond it are bad.
    """

    first_bad: str
    last_good: str
    values: dict[str, float]
    threshold: float


def bisect(
    history: Sequence[str],
    value: Callable[[str], float],
    *,
    threshold: float | None = None,
    lower_is_better: bool = False,
) -> Found:
    """Find the first bad state of a history whose first state is good and whose last is bad.

    As with ``git bisect``, the states are taken to be good up to some entry and bad from there on; where the metric
    goes up and down, one of the places where it crosses the threshold is found.

    Args:
        history: Entry ids, oldest first, from a good one to a bad one.
        value: The metric of a state.
        threshold: Values below it are bad (above it, where lower is better); by default half way between the values
            of the two ends.
        lower_is_better: Whether the metric is one that damage raises, such as perplexity.

    Raises:
        InputError: fewer than two states, or the ends are not good and bad.
    """
    if len(history) < 2:
        raise InputError("nothing to bisect: the good and the bad entry are the same")
    values: dict[str, float] = {}

    def look(identifier: str) -> float:
        if identifier not in values:
            values[identifier] = value(identifier)
        return values[identifier]

    first, last = look(history[0]), look(history[-1])
    limit = (first + last) / 2 if threshold is None else threshold

    def is_bad(number: float) -> bool:
        return number > limit if lower_is_better else number < limit

    if is_bad(first) or not is_bad(last):
        raise InputError(
            f"the metric is {first:.6g} at the good entry {history[0][:12]} and {last:.6g} at the bad one "
            f"{history[-1][:12]}: with the limit {limit:.6g} these are not one good and one bad state"
        )
    good, bad = 0, len(history) - 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_bad(look(history[middle])):
            bad = middle
        else:
            good = middle
    return Found(history[bad], history[good], values, limit)
