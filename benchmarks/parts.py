"""The registry of benchmark parts. A part is a module; adding one means adding its line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

Part = Callable[[bool], dict[str, Any]]

PARTS: Mapping[str, str] = MappingProxyType(
    {
        "ledger_growth": "benchmarks.ledger_growth",
        "target_values": "benchmarks.target_values",
        "keys": "benchmarks.keys",
        "second_moments": "benchmarks.second_moments",
        "solves": "benchmarks.solves",
        "compose": "benchmarks.compose",
        "score": "benchmarks.score",
        "edit": "benchmarks.edit",
        "run": "benchmarks.run",
        "gpu": "benchmarks.gpu",
    }
)
"""Name -> module. The module's ``run(quick)`` measures and returns a JSON object with at least ``ratio``, ``ratio_is``
(what is over what), ``seconds``, ``baseline_seconds`` and ``peak_bytes`` (``peak_is`` says of what); with ``quick`` on
small sizes. A part that cannot be measured on this machine returns ``skipped``, the reason, and nothing else. The
module's ``COMMAND`` has its command line and draws its figures."""


def load_part(name: str) -> Part:
    """The function that measures a part.

    Raises:
        KeyError: there is no such part.
    """
    part: Part = importlib.import_module(PARTS[name]).run
    return part


def draw_part(name: str, figures: dict[str, Any], file: Path) -> None:
    """Draw what a part measured into a PNG file."""
    draw = importlib.import_module(PARTS[name]).COMMAND.draw
    if draw is not None:
        draw(figures, file)


def measure_part(name: str, quick: bool) -> dict[str, Any]:
    """Figures of a part, as `benchmarks.children.in_child` calls it."""
    return {**load_part(name)(quick), "quick": quick}
