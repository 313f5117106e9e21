"""Candidates for the subjects of an adapter: a list of names, or the subjects of a fact file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqedit.errors import InputError
from seqedit.facts.identity import canonical
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Request, requests_of

NAMES = (".txt", ".lst")
"""Endings of a list of names, one a line."""


def as_bare(subjects: Sequence[str]) -> list[Request]:
    """Requests whose prompt is the subject alone: what somebody measures who knows no prompt."""
    return [Request(subject=subject, prompt="{}", target_new="-") for subject in subjects]


def load_candidates(path: str | Path) -> list[Request]:
    """One request for each subject of a file, in its order.

    Args:
        path: A text file of one name a line (``.txt``), whose requests have the bare prompt; or facts in any layout.

    Raises:
        InputError: the file is not there, is not text, or names nobody.
    """
    source = Path(path)
    if source.suffix.lower() not in NAMES:
        found = requests_of(load_records(str(path)))
    else:
        try:
            lines = source.read_text("utf-8-sig").splitlines()
        except FileNotFoundError:
            raise InputError(f"{source}: there is no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source} cannot be read as text: {error}") from None
        found = as_bare([line.strip() for line in lines if line.strip()])
    if not found:
        raise InputError(f"{source} names no subject")
    first: dict[str, Request] = {}
    for request in found:
        first.setdefault(canonical(request.subject), request)
    return list(first.values())
