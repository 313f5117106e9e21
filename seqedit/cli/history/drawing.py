"""A graph of entries in characters, as git draws its own: one column for every line of history that goes on."""

from __future__ import annotations

from collections.abc import Sequence


def draw(nodes: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, str, list[str]]]:
    """The graph of some entries.

    Args:
        nodes: (id, ids of its parents), every entry before its parents. Parents that are not among them end a line.

    Returns:
        For every entry: what stands before its line; what stands before further lines about it; and the lines that
        lead on to the next entry.
    """
    shown = {identifier for identifier, _ in nodes}
    columns: list[str] = []
    rows = []
    for identifier, parents in nodes:
        if identifier not in columns:
            columns.append(identifier)
        at = columns.index(identifier)
        first = " ".join("*" if place == at else "|" for place in range(len(columns)))
        ahead = [parent for parent in parents if parent in shown]
        rest = " ".join("|" if place != at or ahead else " " for place in range(len(columns)))
        rows.append((first, rest, _lines(columns, at, ahead)))
    return rows


def _lines(columns: list[str], at: int, ahead: Sequence[str]) -> list[str]:
    """Move the columns on past an entry, and say how in lines."""
    if not ahead:
        columns.pop(at)
        return [_row(at, [(2 * place + 1, "/") for place in range(at, len(columns))])] if at < len(columns) else []
    lines = []
    columns[at] = ahead[0]
    for parent in ahead[1:]:
        lines.append(_row(at + 1, [(2 * place + 1, "\\") for place in range(at, len(columns))]))
        columns.insert(at + 1, parent)
    while (double := next((i for i, name in enumerate(columns) if name in columns[:i]), None)) is not None:
        home = columns.index(columns[double])
        marks = [(place, "_") for place in range(2 * home + 1, 2 * double - 2, 2)]
        marks += [(2 * place - 1, "/") for place in range(double, len(columns))]
        lines.append(_row(double, marks))
        columns.pop(double)
    return lines


def _row(bars: int, marks: Sequence[tuple[int, str]]) -> str:
    """A line with a bar in each of the first columns and further marks at some places."""
    cells = {2 * place: "|" for place in range(bars)} | dict(marks)
    return "".join(cells.get(place, " ") for place in range(max(cells, default=-1) + 1))
