"""What a ledger's operations cost as it grows: log, blame, active, append, verify; composing, and snapshots.

As a part of ``python -m benchmarks`` it measures the sizes that the documentation shows. On its own it takes them as
options: ``python -m benchmarks.ledger_growth --entries 100,1000 --requests 10 --plot growth.png --json growth.json``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.compose import DEMO, measure_compose
from benchmarks.figures import machine, side_by_side
from benchmarks.growth_plot import draw, exponent
from benchmarks.options import Command, size
from benchmarks.synthetic_ledger import Shape, build, make_adapter
from benchmarks.timing import Cost, measure, peak_bytes
from ledger import Ledger
from ledger.queries.taught import history_of_subject

# What `log` shows of a scored entry.
SCORES: Mapping[str, Mapping[str, object]] = {
    "counterfact": {"ES": 99.6, "PS": 88.123456, "NS": 77.7, "S": 80.1, "GE": 612.5, "earlier": {"ES": 98.1}},
    "tasks": {"cola": {"mcc": 0.51, "change": 0.01, "ci_low": -0.02, "ci_high": 0.04}},
}
LARGE = (1600, 6400)


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    entries: tuple[int, ...] = size((100, 1_000, 10_000), "entries of the ledgers whose database is measured")
    requests: int = size(100, "requests per entry of these")
    adapters: tuple[int, ...] = size((100, 300, 1_000), "adapters to compose, on modules of the demo model's shape")
    rank: int = size(16, "their rank")
    large: int = size(100, "how many are composed on larger modules")
    verified: tuple[int, ...] = size((100, 300, 1_000), "entries, of one request each, of the ledgers to verify")


QUICK = Sizes(entries=(20, 60), requests=5, adapters=(70, 140), large=5, verified=(20, 60))


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes, plot: Path | None = None) -> dict[str, Any]:
    """Measure and print a table on stderr.

    Args:
        sizes: What to measure.
        plot: Draw cost against size here, as PNG.

    Returns:
        ``operations``: name -> size -> cost; ``exponents``: name -> k of cost ~ size^k; ``compose``: ratios to the
        baseline (reading the same bytes and one double-precision product per module), of which those of the largest
        number of adapters are also ``ratio``, ``seconds`` and ``baseline_seconds``.
    """
    operations: dict[str, dict[int, Cost]] = {}
    compose = {}
    with tempfile.TemporaryDirectory() as scratch:
        for entries in sizes.entries:
            for name, cost in _database(Path(scratch) / "ledger", entries, sizes.requests).items():
                _note(operations, name, entries, cost)
        for entries in sizes.verified:
            _note(operations, "verify --shallow", entries, _verify(Path(scratch) / "ledger", entries))
        modules = {f"h.{i}.mlp": DEMO for i in range(3)}
        for count in sizes.adapters:
            key = f"{count} x rank {sizes.rank}, 3 modules of {DEMO[0]} x {DEMO[1]}"
            costs = measure_compose(Path(scratch) / "ledger", count, Shape(modules, sizes.rank, sizes.rank))
            compose[key] = costs
            for name in ("compose", "compose from snapshot"):
                _note(operations, name, count, costs[name])
        key = f"{sizes.large} x rank {sizes.rank}, 1 module of {LARGE[0]} x {LARGE[1]}"
        shape = Shape({"h.0.mlp": LARGE}, sizes.rank, sizes.rank)
        compose[key] = measure_compose(Path(scratch) / "ledger", sizes.large, shape)
    curves = {name: {size: cost.cpu_seconds for size, cost in by.items()} for name, by in operations.items()}
    exponents = {name: exponent(curve) for name, curve in curves.items()}
    for name, k in exponents.items():
        print(f"{name:<36} cost ~ size^{k:.2f}" if k is not None else name, file=sys.stderr)
    ratios = {key: _ratios(costs) for key, costs in compose.items()}
    main = list(ratios)[len(sizes.adapters) - 1]
    headline = {key: value for key, value in ratios[main].items() if key != "costs"}
    figures = {
        **headline,
        "ratio_is": "seconds / baseline_seconds of composing the largest number of adapters; see the part compose",
        "peak_bytes": peak_bytes(),
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "sizes": asdict(sizes),
        "operations": {name: {str(n): asdict(c) for n, c in by.items()} for name, by in operations.items()},
        "exponents": exponents,
        "compose": ratios,
    }
    if plot is not None:
        draw_growth(figures, plot)
    return figures


def draw_growth(figures: dict[str, Any], file: Path) -> None:
    """Draw what `run_sizes` measured into a PNG file."""
    costs = {name: {int(n): c["cpu_seconds"] for n, c in by.items()} for name, by in figures["operations"].items()}
    draw(costs, file, quick=bool(figures.get("quick")))


def _database(place: Path, entries: int, requests: int) -> dict[str, Cost]:
    """What reads the database alone."""
    build(place, entries, Shape(requests=requests, revert_every=50, supersede_every=7, scores=SCORES), objects=False)
    costs = {}
    with Ledger.open(place) as ledger:
        kinds = ("counterfact", "tasks")
        costs["log, all entries"] = measure(lambda: ledger.log_rows(kinds=kinds[:1], keys=("ES", "PS", "NS")))
        costs["log, all entries, as for --json"] = measure(lambda: ledger.log_rows(kinds=kinds))
        costs["log, all entries, without scores"] = measure(lambda: ledger.log_rows(kinds=()))
        costs["log -n 20"] = measure(lambda: ledger.log_rows(limit=20, kinds=kinds))
        costs["blame, all branches"] = measure(lambda: _blame(ledger, entries, None))
        costs["blame, one branch"] = measure(lambda: _blame(ledger, entries, ledger.head()))
        costs["active"] = measure(ledger.active_ids)
        costs["live requests"] = measure(ledger.live_requests)
        costs["resolve HEAD~n"] = measure(lambda: ledger.resolve(f"HEAD~{entries - 1}"))
        numbers = iter(range(10**9, 2 * 10**9))
        # A new adapter each time, computed outside of what is measured only in part: its digest belongs to append.
        costs["append"] = measure(lambda: ledger.append(make_adapter(next(numbers), Shape())))
    costs["log -n 20, whole process"] = measure(lambda: _command("log", "-n", "20", "--ledger", str(place)), 2)
    costs["log, all entries, whole process"] = measure(lambda: _command("log", "--ledger", str(place)), 2)
    shutil.rmtree(place)
    return costs


def _blame(ledger: Ledger, entries: int, rev: str | None) -> None:
    subject = f"Subject {entries // 2}-1"
    with ledger.database.read() as connection:
        if not history_of_subject(connection, subject, rev=rev):
            raise AssertionError(f"blame does not find '{subject}'")


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "seqedit", *arguments], check=True, stdout=subprocess.DEVNULL)


def _verify(place: Path, entries: int) -> Cost:
    build(place, entries, Shape(revert_every=50))
    with Ledger.open(place) as ledger:
        if ledger.verify(deep=False):
            raise AssertionError("verify finds problems in a synthetic ledger")
        cost = measure(lambda: ledger.verify(deep=False))
    shutil.rmtree(place)
    return cost


def _ratios(costs: dict[str, Cost]) -> dict[str, Any]:
    return {
        **side_by_side(costs["compose"], costs["baseline"], speedup=False),
        "costs": {name: asdict(cost) for name, cost in costs.items()},
    }


def _note(operations: dict[str, dict[int, Cost]], name: str, size: int, cost: Cost) -> None:
    operations.setdefault(name, {})[size] = cost
    wall, cpu = cost.seconds * 1e3, cost.cpu_seconds * 1e3
    print(f"{name:<36}{size:>8}{wall:>12.1f} ms{cpu:>12.1f} ms processor", file=sys.stderr, flush=True)


COMMAND = Command("ledger_growth", QUICK, Sizes(), run_sizes, draw_growth)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
