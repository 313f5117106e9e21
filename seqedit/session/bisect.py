"""Bisection on a ledger: the model is loaded only when a value is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.ledger import Ledger
from seqedit.editing.loading import Loading
from seqedit.errors import InputError
from seqedit.session.metrics import StateMetric
from seqedit.session.opening import open_session

if TYPE_CHECKING:
    from seqedit.session.session import Session


def bisect_ledger(
    ledger: Ledger,
    metric: StateMetric,
    good: str,
    bad: str = "HEAD",
    *,
    threshold: float | None = None,
    drop: float | None = None,
    session: Session | None = None,
    loading: Loading | None = None,
    on_value: Callable[[str, float, bool], None] | None = None,
) -> Found:
    """The first entry between two states after which a metric is bad.

    Args:
        ledger: The ledger; missing values are measured and written to it.
        metric: The metric.
        good: Revision of a good state, an ancestor of ``bad``.
        bad: Revision of a bad state.
        threshold: As for `seqedit.session.bisect.bisect`.
        drop: Instead of a threshold: bad is what is worse than the good state by more than this.
        session: The model, to measure what is missing; by default the ledger's base model is loaded when needed.
        loading: As for `open_session`.
        on_value: Called with entry, value and whether it had to be measured.

    Raises:
        InputError: ``good`` is no ancestor of ``bad``, or the two are not good and bad.
    """
    path = _path(ledger, good, bad)
    opened = session

    known: dict[str, float] = {}

    def value(entry: str) -> float:
        nonlocal opened
        if entry in known:
            return known[entry]
        stored = metric.stored(ledger, entry)
        if stored is None:
            if opened is None:
                opened = open_session(ledger, loading)
            opened.checkout(entry)
            found = metric.measure(opened, entry)
        else:
            found = stored
        known[entry] = found
        if on_value is not None:
            on_value(entry, found, stored is None)
        return found

    try:
        if drop is not None:
            base = value(path[0])
            threshold = base + drop if metric.lower_is_better else base - drop
        return bisect(path, value, threshold=threshold, lower_is_better=metric.lower_is_better)
    finally:
        if opened is not None:
            opened.restore()


def plan_bisect(
    ledger: Ledger,
    metric: StateMetric,
    good: str,
    bad: str = "HEAD",
    *,
    threshold: float | None = None,
    drop: float | None = None,
) -> Planned:
    """What `bisect_ledger` would measure; nothing is measured or written.

    Raises:
        InputError: as far as the values that the ledger holds tell, what `bisect_ledger` would refuse.
    """
    path = _path(ledger, good, bad)
    if len(path) < 2:
        raise InputError(_NOTHING)
    values = {entry: value for entry in path if (value := metric.stored(ledger, entry)) is not None}
    missing = [entry for entry in path if entry not in values]
    for entry in missing:
        metric.check(entry)
    ends = sum(entry not in values for entry in {path[0], path[-1]})
    most = min(len(missing), ends + (len(path) - 2).bit_length())
    if drop is not None and path[0] in values:
        threshold = values[path[0]] + (drop if metric.lower_is_better else -drop)
    elif drop is not None:
        return Planned(tuple(path), values, most)
    try:
        bisect(path, values.__getitem__, threshold=threshold, lower_is_better=metric.lower_is_better)
    except KeyError:  # the first that must be measured
        return Planned(tuple(path), values, most)
    return Planned(tuple(path), values, 0)


@dataclass(frozen=True)
class Planned:
    """A bisection that is to be made.

    Attributes:
        path: Ids of the states from the good one to the bad one.
        known: Entry id -> value, of those that the ledger holds a value of.
        most: How many states have to be measured at most.
    """

    path: tuple[str, ...]
    known: dict[str, float]
    most: int


def _path(ledger: Ledger, good: str, bad: str) -> list[str]:
    start = ledger.resolve(good)
    history = [entry.id for entry in ledger.log(bad)]
    if start not in history:
        raise InputError(f"{start[:12]} is not in the history of {history[0][:12]}: nothing to bisect between them")
    return history[: history.index(start) + 1][::-1]


_NOTHING = "nothing to bisect: the good and the bad entry are the same"


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
        raise InputError(_NOTHING)
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
