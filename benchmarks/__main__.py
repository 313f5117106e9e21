"""Run benchmarks: ``python -m benchmarks [--only part,...] [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.parts import PARTS, load_part


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for and write what they measured as JSON: part -> figures.

    Returns:
        Exit code: 0, or 2 for wrong usage.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the docs promise.")
    parser.add_argument("--only", metavar="PART,...", help=f"only these parts: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that a part runs")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here; else to stdout")
    options = parser.parse_args(arguments)
    names = list(PARTS) if options.only is None else options.only.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"no benchmark part '{unknown[0]}'; known: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    figures = {}
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        figures[name] = load_part(name)(options.quick)
    text = json.dumps(figures, indent=1) + "\n"
    if options.json is None:
        sys.stdout.write(text)
    else:
        options.json.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
