"""Texts in CSV files that spreadsheets open: what would be taken for a formula is marked as a text."""

from __future__ import annotations

import re
from typing import Any

_FORMULA = re.compile(r"(^|[;\n\t])(?=[\s\0]*[=+\-@\uff1d\uff0b\uff0d\uff20\t])")
"""Where a cell may begin: at the text's start, and at what some spreadsheets, or other regions' settings, take for the
end of a cell or row. The full-width signs count as formulas in East Asian settings."""


def cell(value: Any) -> Any:
    """A value as a CSV cell: an apostrophe before what would be a formula, carriage returns as line ends.

    Numbers stay numbers, the negative ones too. The apostrophe is what spreadsheets themselves mark texts by; the JSON
    and Parquet files beside the CSV hold the text as it is.
    """
    if not isinstance(value, str):
        return value
    # Python's CSV writer does not quote a lone carriage return, which readers take for the end of a row.
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return _FORMULA.sub(r"\1'", text)
