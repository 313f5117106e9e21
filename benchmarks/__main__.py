"""Run benchmarks: ``python -m benchmarks [--only part,...] [--quick] [--json FILE] [--plots DIR]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.children import in_child
from benchmarks.parts import PARTS, draw_part

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for, each in a process of its own, and write what they measured as JSON: part -> figures.

    Returns:
        Exit code: 0; 1 where a part failed (its figures say so, the others' are there); 2 for wrong usage; 3 where a
        part that was asked for by name needs a machine that this is not.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the docs promise.")
    parser.add_argument("--only", metavar="PART,...", help=f"only these parts: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that a part runs")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here; else to stdout")
    parser.add_argument("--plots", metavar="DIR", type=Path, help="draw each part's figures here, as PART.png")
    options = parser.parse_args(arguments)
    names = list(PARTS) if options.only is None else options.only.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"no benchmark part '{unknown[0]}'; known: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    figures: dict[str, dict[str, Any]] = {}
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        figures[name] = _measured(name, options.quick)
        if options.plots is not None and "ratio" in figures[name]:
            options.plots.mkdir(parents=True, exist_ok=True)
            draw_part(name, figures[name], options.plots / f"{name}.png")
        if options.json is not None:  # after every part: the figures of the first hours outlive a failure of the last
            options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if options.json is None:
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    print(table(figures), file=sys.stderr)
    if any("failed" in found for found in figures.values()):
        return 1
    return 3 if options.only is not None and any("skipped" in found for found in figures.values()) else 0


def _measured(name: str, quick: bool) -> dict[str, Any]:
    """A part's figures; those of a part that fails say so, and the parts after it are measured."""
    try:
        return in_child("benchmarks.parts:measure_part", name=name, quick=quick)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return {"failed": str(error)}


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures of all parts, a line each, for people."""
    lines = [f"{'part':<16}{'ratio':>9}{'by processor':>14}{'seconds':>11}{'baseline':>11}{'peak':>10}{'size^k':>9}"]
    for name, found in figures.items():
        reason = found.get("failed") or found.get("skipped")
        if reason:
            lines.append(f"{name:<16}{'failed' if 'failed' in found else 'skipped'}: {reason}")
            continue
        lines.append(
            f"{name:<16}{_number(found.get('ratio')):>9}{_number(found.get('cpu_ratio')):>14}"
            f"{_number(found.get('seconds')):>11}{_number(found.get('baseline_seconds')):>11}"
            f"{_bytes(found.get('peak_bytes')):>10}{_number(found.get('exponent')):>9}"
        )
    ratios = [f"{name}: {found['ratio_is']}" for name, found in figures.items() if "ratio_is" in found]
    return "\n".join([*lines, *ratios])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _bytes(value: float | None) -> str:
    if value is None:
        return ""
    unit, scale = next(((u, s) for u, s in _UNITS if value >= s), ("B", 1))
    return f"{value / scale:.0f} {unit}"


if __name__ == "__main__":
    sys.exit(main())
