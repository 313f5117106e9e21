"""Which layout the records of a source have, told by all of them and not by the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqedit.errors import RequestError
from seqedit.facts.json_rows import Row
from seqedit.facts.layouts import Layout, layouts_with, unknown_layout


def layouts_of(rows: Sequence[Row], source: str) -> list[Layout | None]:
    """The layout of every row, None where a row is of no known one.

    A row that lacks what its layout needs is read as the others are: then the missing field is named. Only where no
    row has all that a layout needs is the source of no known layout, however like one it looks.

    Raises:
        RequestError: the source is of no known layout (its fields are named, and the nearest layout with what is
            missing), or of several; then records of each are named.
    """
    own = [_of(value) for _, value in rows]
    fitting = [(i, layout) for i, layout in enumerate(own) if layout is not None and layout.fits(rows[i][1])]
    families: dict[str, list[int]] = {}
    for i, layout in fitting:
        if layout.family is None:
            continue
        families.setdefault(layout.family, []).append(i)
    if len(families) > 1:
        parts = "; ".join(f"{name} ({_records(places)})" for name, places in families.items())
        raise RequestError(f"{source}: records of several layouts: {parts}; put each into a file of its own")
    if not fitting:
        at = next((i for i, (_, value) in enumerate(rows) if isinstance(value, dict)), None)
        if at is None:
            return own
        raise RequestError(f"{rows[at][0]}: {unknown_layout(rows[at][1])}")
    main = fitting[0][1]
    fits = {i for i, _ in fitting}
    return [layout if i in fits else main if _akin(rows[i][1], main) else None for i, layout in enumerate(own)]


def _of(value: Any) -> Layout | None:
    """The layout that one row looks most like."""
    if not isinstance(value, dict):
        return None
    found = layouts_with({name: item for name, item in value.items() if item is not None})
    # A column of nulls tells a layout only where nothing else does.
    found = found or layouts_with(value)
    return next((layout for layout in found if layout.fits(value)), found[0] if found else None)


def _akin(value: Any, layout: Layout) -> bool:
    """Whether a row has anything of a layout."""
    return isinstance(value, dict) and any(name in value for name in (layout.told_by, *layout.needs))


def _records(places: Sequence[int]) -> str:
    """Record numbers, from 1."""
    if len(places) == 1:
        return f"record {places[0] + 1}"
    names = ", ".join(str(place + 1) for place in places[:5])
    return f"records {names}" + (f" and {len(places) - 5} more" if len(places) > 5 else "")
