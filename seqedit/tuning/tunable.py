"""Which methods have settings that are searched."""

from __future__ import annotations

from collections.abc import Sequence

from seqedit.errors import InputError
from seqedit.facts.requests import Record, check_batch, requests_of
from seqedit.methods import get_method, method_names
from seqedit.methods.config import ClosedFormConfig


def tunable() -> list[str]:
    """Names of the methods whose settings are searched: the closed forms."""
    return [name for name in method_names() if issubclass(get_method(name).config, ClosedFormConfig)]


def check_method(method: str) -> None:
    """Refuse methods whose settings are not what is searched here.

    Raises:
        InputError: names the method, why, and those that can be tuned.
    """
    get_method(method)
    if method not in tunable():
        raise InputError(
            f"method '{method}' cannot be tuned: the search solves many settings from the same target values, "
            f"and it has none; choose {', '.join(tunable())}"
        )


def check_search(records: Sequence[Record], method: str, minutes: float) -> None:
    """Refuse what `tune` refuses before it looks at the model.

    Raises:
        InputError: too few facts or no time, or a method that cannot be tuned.
    """
    check_method(method)
    if minutes <= 0:
        raise InputError(f"minutes must be positive, got {minutes:g}")
    if len(records) < 8:
        raise InputError(f"tuning needs at least 8 calibration facts, got {len(records)}")
    check_batch(requests_of(records))
