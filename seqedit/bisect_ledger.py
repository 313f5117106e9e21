"""Bisection on a ledger: the model is loaded only when a value is missing."""

from __future__ import annotations

from collections.abc import Callable

from ledger.ledger import Ledger
from seqedit.bisect import Found, bisect
from seqedit.errors import InputError
from seqedit.open_session import open_session
from seqedit.session import Session
from seqedit.state_metrics import StateMetric


def bisect_ledger(
    ledger: Ledger,
    metric: StateMetric,
    good: str,
    bad: str = "HEAD",
    *,
    threshold: float | None = None,
    drop: float | None = None,
    session: Session | None = None,
    model: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    on_value: Callable[[str, float, bool], None] | None = None,
) -> Found:
    """The first entry between two states after which a metric is bad.

    Args:
        ledger: The ledger; missing values are measured and written to it.
        metric: The metric.
        good: Revision of a good state, an ancestor of ``bad``.
        bad: Revision of a bad state.
        threshold: As for `seqedit.bisect.bisect`.
        drop: Instead of a threshold: bad is what is worse than the good state by more than this.
        session: The model, to measure what is missing; by default the ledger's base model is loaded when needed.
        model: As for `open_session`.
        dtype: As for `open_session`.
        device: As for `open_session`.
        on_value: Called with entry, value and whether it had to be measured.

    Raises:
        InputError: ``good`` is no ancestor of ``bad``, or the two are not good and bad.
    """
    start = ledger.resolve(good)
    history = [entry.id for entry in ledger.log(bad)]
    if start not in history:
        raise InputError(f"{start[:12]} is not in the history of {history[0][:12]}: nothing to bisect between them")
    path = history[: history.index(start) + 1][::-1]
    opened = session

    known: dict[str, float] = {}

    def value(entry: str) -> float:
        nonlocal opened
        if entry in known:
            return known[entry]
        stored = metric.stored(ledger, entry)
        if stored is None:
            if opened is None:
                opened = open_session(ledger, model=model, dtype=dtype, device=device)
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
