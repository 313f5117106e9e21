"""What a name was probably meant to be: the one helper behind every "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like a mistyped one, whatever their cases; None where none is near.

    Args:
        name: What was given.
        known: The names that would have been right.
        cutoff: How alike they must be, from 0 to 1.
    """
    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(each.casefold(), each)
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'NAME'?`` for an error's message; nothing where no known name is near.

    Args:
        name: What was given.
        known: The names that would have been right.
    """
    there = list(known)
    found = None if name in there else closest(name, there)
    return "" if found is None else f"; did you mean '{found}'?"
