"""What it costs to start: whole-process times of every verb, and of every slip, as one table.

``python -m benchmarks.startup`` runs each command of `benchmarks.startup_commands` in a process of its own, as a user
would, and writes a Markdown table: what was run, its exit code, the seconds that passed, and those the processors
worked for it, each the least of some repetitions. On a machine that does something else the latter say more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.startup_commands import READING, all_slips, make_world

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        code: Its exit code.
        seconds: That passed.
        processor: Seconds that processors worked for it, its children's included.
    """

    code: int
    seconds: float
    processor: float


def measure(command: Sequence[str], place: Path, source: Path) -> Cost:
    """Run a command once.

    Args:
        command: Arguments of ``seqedit``.
        place: Folder to run it in.
        source: Checkout whose modules are run.
    """
    environment = {**os.environ, "PYTHONPATH": str(source), "SEQEDIT_LEDGER": "ledger", "HF_HUB_OFFLINE": "1"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "seqedit", *command], cwd=place, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(process.returncode, seconds, used.ru_utime + used.ru_stime)


def least(command: Sequence[str], place: Path, source: Path, repeats: int) -> Cost:
    """The least cost of some repetitions."""
    found = [measure(command, place, source) for _ in range(repeats)]
    return Cost(found[0].code, min(one.seconds for one in found), min(one.processor for one in found))


def table(title: str, found: Mapping[str, Sequence[Cost]], columns: Sequence[str]) -> str:
    """A Markdown table, the slowest of the last column first.

    Args:
        title: Its heading.
        found: What was run -> its cost in every checkout.
        columns: What the checkouts are called.
    """
    heads = [f"{name} {what}".strip() for name in columns for what in ("exit", "seconds", "processor")]
    lines = [f"### {title}", "", "| command | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, costs in sorted(found.items(), key=lambda item: -item[1][-1].seconds):
        cells = [f"{cost.code} | {cost.seconds:.2f} | {cost.processor:.2f}" for cost in costs]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    slowest = max(costs[-1].seconds for costs in found.values())
    return "\n".join([*lines, "", f"{len(found)} commands, the slowest {slowest:.2f} s.", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the tables; 2 where nothing is chosen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each command, of which the least counts")
    parser.add_argument("--only", default="", help="only commands whose name holds this, e.g. 'edit:'")
    parser.add_argument("--against", metavar="DIR", type=Path, help="another checkout, measured beside this one")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the tables here; else to stdout")
    options = parser.parse_args(arguments)
    sources = [*([] if options.against is None else [options.against.resolve()]), ROOT]
    columns = [""] if options.against is None else [options.against.name, "here"]
    parts = []
    with tempfile.TemporaryDirectory() as scratch:
        # Each checkout has a world of its own: a newer one upgrades the ledger, which an older one then refuses.
        places = [Path(scratch) / str(number) for number in range(len(sources))]
        for place in places:
            place.mkdir()
            make_world(place)
            slips = {name: command for name, (command, _) in all_slips(place).items()}
        for title, commands in (("Verbs that ask, and help", READING), ("Slips", slips)):
            chosen = {name: command for name, command in commands.items() if options.only in name}
            found = {}
            for name, command in chosen.items():
                print(f"{name}", file=sys.stderr, flush=True)
                found[name] = [
                    least(command, place, source, options.repeats)
                    for place, source in zip(places, sources, strict=True)
                ]
            if found:
                parts.append(table(title, found, columns))
    if not parts:
        print(f"no command's name holds '{options.only}'", file=sys.stderr)
        return 2
    text = "\n".join(parts)
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
