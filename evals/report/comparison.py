"""The table of the papers: methods by row, scores with their intervals by column, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.report.spreadsheet import cell as cell_text
from evals.scores.probes import MAIN_COLUMNS, in_order, is_column
from seqedit.support.printable import escape, one_line

COLUMNS = ("S", "ES", "PS", "NS", "GE", "RS")
"""Scores of the published tables, in their order; the first four in percent, the last two x100."""


ZSRE_COLUMNS = ("ET", "PT", "NT")
"""What zsRE tables report: efficacy, paraphrase and specificity accuracy per token, in percent."""


TEXT_COLUMNS = {"perplexity": 2, "KL": 5}
"""What plain text tells, with the digits shown: perplexity, and the divergence from the unedited model."""


@dataclass(frozen=True)
class Cell:
    """A score with its confidence interval; None where nothing tells it."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def text(self, digits: int = 1) -> str:
        """E.g. ``84.4 [81.0, 87.5]``; ``-`` where there is no value."""
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class ComparisonRow:
    """One method, scored on all facts after the last of its batches.

    Attributes:
        label: What the row is called.
        cells: Score name -> value and interval; `COLUMNS`, `TEXT_COLUMNS` where a text was given, then tasks as
            ``cola.mcc`` and ``cola.f1_weighted``; portability and locality (`evals.scores.probes`) too, null where
            nothing tells them.
        seconds_per_edit: Time of the edits over their number; None for the unedited model.
        note: What the reader has to know, e.g. that the method broke off.
        missing: Why a column of portability or locality is null.
    """

    label: str
    cells: Mapping[str, Cell] = field(default_factory=dict)
    seconds_per_edit: float | None = None
    note: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        cells = {name: {"value": c.value, "low": c.low, "high": c.high} for name, c in self.cells.items()}
        return {
            "label": self.label, "cells": cells, "seconds_per_edit": self.seconds_per_edit, "note": self.note,
            "missing": dict(self.missing),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ComparisonRow:
        """The inverse of `to_dict`."""
        cells = {name: Cell(**cell) for name, cell in data["cells"].items()}
        # Rows of earlier versions name no reasons.
        return cls(data["label"], cells, data["seconds_per_edit"], data["note"], data.get("missing") or {})


def columns(rows: Sequence[ComparisonRow]) -> list[str]:
    """Score names that some row has, the published ones first; portability and locality where a row tells them."""
    found = dict.fromkeys(name for row in rows for name in row.cells)
    told = {name for row in rows for name, cell in row.cells.items() if cell.value is not None}
    known = [name for name in COLUMNS if name in told]
    own = [name for name in ZSRE_COLUMNS if name in found]
    probed = in_order(name for name in found if name in told)
    rest = (name for name in found if name not in (*COLUMNS, *ZSRE_COLUMNS) and not is_column(name))
    return [*known, *own, *probed, *rest]


def missing_notes(rows: Sequence[ComparisonRow]) -> dict[str, str]:
    """Why a column of portability or locality is null in all rows, as notes; nothing where the table has none."""
    shown = set(in_order(columns(rows)))
    reasons = {name: reason for row in rows for name, reason in row.missing.items() if name not in shown}
    return {name: f"null: {reasons[name]}" for name in MAIN_COLUMNS if name in reasons} if shown else {}


def notes_text(notes: Mapping[str, str]) -> str:
    """Notes about a table's columns, to stand under it; the same note once."""
    by_text: dict[str, list[str]] = {}
    for name, text in notes.items():
        by_text.setdefault(text, []).append(name)
    return "".join(f"\n{', '.join(names)}: {text}\n" for text, names in by_text.items())


def markdown(rows: Sequence[ComparisonRow]) -> str:
    """A Markdown table; notes follow it."""
    names = columns(rows)
    head = ["method", *names, "s / edit"]
    lines = [f"| {' | '.join(map(_markdown, head))} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for row in rows:
        lines.append(f"| {' | '.join([_markdown(row.label), *_texts(row, names)])} |")
    lines += [f"\n{_markdown(row.label)}: {_markdown(row.note)}" for row in rows if row.note]
    return "\n".join(lines) + "\n"


def csv_text(rows: Sequence[ComparisonRow]) -> str:
    """Full precision: for every score a column, and its interval's ends as ``NAME_low`` and ``NAME_high``."""
    names = columns(rows)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    writer.writerow(map(cell_text, ["method", *ends, "seconds_per_edit", "note"]))
    for row in rows:
        cells = [row.cells.get(name, Cell(None)) for name in names]
        values = [value for cell in cells for value in (cell.value, cell.low, cell.high)]
        numbers = ["" if v is None else repr(float(v)) for v in [*values, row.seconds_per_edit]]
        writer.writerow([cell_text(row.label), *numbers, cell_text(row.note)])
    return buffer.getvalue()


def latex(rows: Sequence[ComparisonRow]) -> str:
    """A ``tabular`` for the booktabs package; half the interval's width stands small behind the value."""
    names = columns(rows)
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(names) + 1)}}}",
        r"\toprule",
        " & ".join(["Method", *map(_escaped, names), "s / edit"]) + r" \\",
        r"\midrule",
    ]
    for row in rows:
        values = []
        for name in names:
            cell = row.cells.get(name, Cell(None))
            text = "--" if cell.value is None else f"{cell.value:.{digits_of(name)}f}"
            if cell.value is not None and cell.low is not None and cell.high is not None:
                text = f"${text}_{{\\pm {(cell.high - cell.low) / 2:.{digits_of(name)}f}}}$"
            values.append(text)
        seconds = "--" if row.seconds_per_edit is None else f"{row.seconds_per_edit:.2f}"
        lines.append(" & ".join([_escaped(row.label), *values, seconds]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _texts(row: ComparisonRow, names: Sequence[str]) -> list[str]:
    seconds = "-" if row.seconds_per_edit is None else f"{row.seconds_per_edit:.2f}"
    return [*(row.cells.get(name, Cell(None)).text(digits_of(name)) for name in names), seconds]


def digits_of(name: str) -> int:
    """Digits a column is shown with: percentages with one, task metrics (between -1 and 1) with three."""
    return TEXT_COLUMNS.get(name, 3 if "." in name and not is_column(name) else 1)


def _markdown(text: str) -> str:
    """As `seqedit.adapters.card.escape`, but for what means nothing in Markdown where it stands: ``a_b``, ``a & b``."""
    return re.sub(r"(?<=\w)\\_(?=\w)|\\&(?!#?\w+;)", lambda match: match[0][1:], escape(text))


def _escaped(text: str) -> str:
    special = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
               "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}  # fmt: skip
    return "".join(special.get(character, character) for character in one_line(" ".join(text.split())))
