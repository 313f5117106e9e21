"""The rows of a file of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from seqedit.demo.location import resolve_demo_file
from seqedit.errors import InputError, RequestError
from seqedit.facts.checks import short
from seqedit.facts.json_rows import Row, read_rows
from seqedit.facts.layouts import layouts_with
from seqedit.facts.reading.recognise import what_bytes_are, what_folder_is, what_rows_are, what_text_is
from seqedit.facts.reading.unusable import Skipped, refusal, unusable

Case = TypeVar("Case")


def case_rows(source: str | Path, kind: str, is_case: Callable[[Mapping[str, Any]], bool]) -> list[Row]:
    """Rows of a benchmark's file, each with its place.

    Args:
        source: The file.
        kind: The benchmark.
        is_case: Whether a row is a case of it.

    Raises:
        InputError: there is no such file, it is no JSON, holds no records, or something else than cases, which is named
            with the verb that reads it.
        EnvironmentFailure: the file cannot be read.
    """
    path = Path(resolve_demo_file(str(source)))
    if not path.is_file():
        what = what_folder_is(path) if path.is_dir() else None
        if what is not None:
            raise InputError(f"{source} holds no {kind} cases: it is {what}")
        raise InputError(f"no such file: {short(str(source), 200)}")
    if (what := what_bytes_are(path)) is not None:
        raise InputError(f"{source} holds no {kind} cases: it is {what}")
    try:
        rows = read_rows(path)
    except RequestError:
        raise
    except InputError as error:
        if (what := what_text_is(path)) is None:
            raise
        raise InputError(f"{source} holds no {kind} cases: it is {what}") from error
    if not rows:
        raise InputError(f"{source} holds no records")
    if not any(isinstance(row, Mapping) and is_case(row) for _, row in rows):
        _refuse_others([row for _, row in rows], source, kind)
    return rows


def _refuse_others(rows: Sequence[Any], source: str | Path, kind: str) -> None:
    """Refuse rows that are something else that is known, as such."""
    what = what_rows_are(rows)
    if what is None:
        facts = [row for row in rows if isinstance(row, Mapping)]
        found = [next((one for one in layouts_with(row) if one.fits(row)), None) for row in facts]
        if found and found[0] is not None and all(one is not None for one in found):
            what = f"facts in the layout of {found[0].name}: edit, score and `seqedit benchmark real-life` read them"
    if what is not None:
        raise InputError(f"{source} holds no {kind} cases: {what}")


def cases_of(
    rows: Sequence[Row],
    source: str | Path,
    read: Callable[[Any], Case],
    on_skipped: Callable[[Skipped], None] | None = None,
) -> list[Case]:
    """Rows as cases, the unusable ones told all at once.

    Args:
        rows: The rows.
        source: What they come from.
        read: Makes a case of a row.
        on_skipped: Called with those that cannot be used, which are then left out; without it they are an error.

    Raises:
        RequestError: names the cases that cannot be used, and why.
    """
    cases, faults = [], []
    for number, (where, row) in enumerate(rows, 1):
        try:
            cases.append(read(row))
        except RequestError as error:
            faults.append(unusable(number, where, row, error))
    if faults and on_skipped is None:
        raise refusal(str(source), faults, len(rows))
    if faults and on_skipped is not None:
        on_skipped(Skipped(str(source), len(rows), tuple(faults)))
    return cases
