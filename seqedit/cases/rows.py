"""The rows of a file of cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqedit.demo.location import resolve_demo_file
from seqedit.errors import InputError
from seqedit.facts.checks import short
from seqedit.facts.json_rows import read_rows


def case_rows(source: str | Path) -> list[tuple[str, Any]]:
    """Rows of a benchmark's file, each with its place.

    Raises:
        InputError: there is no such file, it is no JSON, or it holds no records.
        EnvironmentFailure: the file cannot be read.
    """
    path = Path(resolve_demo_file(str(source)))
    if not path.is_file():
        raise InputError(f"no such file: {short(str(source), 200)}")
    rows = read_rows(path)
    if not rows:
        raise InputError(f"{source} holds no records")
    return rows
