"""Sizes of a part as command-line options: ``python -m benchmarks.PART --requests 64,512 --json FILE``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from seqedit.errors import SeqeditError


def size(default: Any, text: str) -> Any:
    """A dataclass field with a help text."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Command:
    """A part's own command line.

    Attributes:
        name: Name of the part.
        quick: Its sizes for a run that only shows that it works.
        full: Its documented sizes, an instance of a frozen dataclass; its fields become the options.
        measure: Measures some sizes.
        draw: Draws the figures into a PNG file.
    """

    name: str
    quick: Any
    full: Any
    measure: Callable[[Any], dict[str, Any]]
    draw: Callable[[dict[str, Any], Path], None] | None = None

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Measure the sizes given as options.

        Returns:
            Exit code: 0, or that of a typed error.
        """
        parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{self.name}")
        parser.add_argument("--quick", action="store_true", help="small sizes where no others are given")
        for entry in fields(self.full):
            shown = getattr(self.full, entry.name)
            parser.add_argument(
                f"--{entry.name.replace('_', '-')}",
                type=_reader(shown),
                metavar="N,..." if isinstance(shown, tuple) else "N",
                help=f"{entry.metadata.get('help', 'size')} [{_shown(shown)}]",
            )
        parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures here (PNG)")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here; else to stdout")
        options = vars(parser.parse_args(arguments))
        quick = options.pop("quick")
        start = self.quick if quick else self.full
        plot, file = options.pop("plot"), options.pop("json")
        try:
            figures = self.measure(replace(start, **{k: v for k, v in options.items() if v is not None}))
        except SeqeditError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        figures = {**figures, "quick": quick}
        if plot is not None and self.draw is not None:
            self.draw(figures, plot)
        text = json.dumps(figures, indent=1) + "\n"
        if file is None:
            sys.stdout.write(text)
        else:
            file.write_text(text, "utf-8")
        return 0


def _reader(default: Any) -> Callable[[str], Any]:
    if isinstance(default, bool):
        return _truth
    if isinstance(default, tuple):
        kind = type(default[0]) if default else str
        return lambda text: tuple(kind(part) for part in text.split(",") if part)
    return str if default is None or default is MISSING else type(default)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError("true or false")
    return text.lower() == "true"


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
