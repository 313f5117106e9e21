"""Candidates for the subjects of an adapter: a list of names, or the subjects of a fact file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqedit.errors import InputError
from seqedit.facts.identity import canonical
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Request, requests_of
from seqedit.support.reading import read_text

NAMES = (".txt", ".lst")
"""Endings of a list of names, one a line."""
_MOST = 1_000
"""Characters of a name; more are another file, all on one line."""


def as_bare(subjects: Sequence[str]) -> list[Request]:
    """Requests whose prompt is the subject alone: what somebody measures who knows no prompt."""
    return [Request(subject=subject, prompt="{}", target_new="-") for subject in subjects]


def load_candidates(path: str | Path) -> list[Request]:
    """One request for each subject of a file, in its order.

    Args:
        path: A text file of one name a line (``.txt``), whose requests have the bare prompt; or facts in any layout.

    Raises:
        InputError: the file is not there, is not text, or names nobody; a line is too long for a name.
    """
    source = Path(path)
    if source.suffix.lower() not in NAMES:
        found = requests_of(load_records(str(path)))
    else:
        names = [line.strip() for line in read_text(source).splitlines()]
        for number, name in enumerate(names, 1):
            if len(name) > _MOST:
                raise InputError(f"{source}, line {number}: {len(name):,} characters are no name of a subject")
        found = as_bare([name for name in names if name])
    if not found:
        raise InputError(f"{source} names no subject")
    first: dict[str, Request] = {}
    for request in found:
        first.setdefault(canonical(request.subject), request)
    return list(first.values())
