"""The registry of benchmark parts. A part is a module; adding one means adding its line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

Part = Callable[[bool], dict[str, Any]]

PARTS: Mapping[str, str] = MappingProxyType(
    {
        "ledger_growth": "benchmarks.ledger_growth",
    }
)
"""Name -> module. The module's ``run(quick)`` measures and returns a JSON object with at least ``ratio`` (cost over
that of the baseline), ``seconds``, ``baseline_seconds`` and ``peak_bytes``; with ``quick`` on small sizes."""


def load_part(name: str) -> Part:
    """The function that measures a part.

    Raises:
        KeyError: there is no such part.
    """
    part: Part = importlib.import_module(PARTS[name]).run
    return part
