"""Composing a state from its adapters against its floor: ``python -m benchmarks.compose --adapters 100,1000``.

The floor is reading the same bytes and one double-precision product per module.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.figures import fitted_exponent, measure_rates, part_figures, side_by_side
from benchmarks.options import Command, size
from benchmarks.plots import Plot
from benchmarks.synthetic_ledger import Shape, build
from benchmarks.timing import Cost, measure, measure_both
from ledger import Ledger
from ledger.states.snapshots import SnapshotPolicy
from seqedit.adapters.files import WEIGHTS

DEMO = (128, 1152)
RATIO_IS = "seconds / baseline_seconds for the largest number of adapters; the baseline is the floor, reading the " \
    "adapters' files and one float64 product per module; no figure was promised"  # fmt: skip
PLOT = Plot("adapters", {"cpu_seconds": "compose", "snapshot_cpu_seconds": "from a snapshot",
                         "baseline_cpu_seconds": "floor"})  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    adapters: tuple[int, ...] = size((100, 300, 1000), "numbers of adapters on modules of the demo model's shape")
    rank: int = size(16, "their rank")
    modules: int = size(3, "modules of each")


QUICK = Sizes((5, 10), 2, 1)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Measure the sizes; a row for each number of adapters."""
    rates = measure_rates(torch.float64)
    rows = []
    modules = {f"h.{i}.mlp": DEMO for i in range(sizes.modules)}
    with tempfile.TemporaryDirectory() as scratch:
        for count in sizes.adapters:
            costs = measure_compose(Path(scratch) / "ledger", count, Shape(modules, sizes.rank, sizes.rank))
            inner, outputs = count * sizes.rank, sum(d_out * d_in for d_out, d_in in modules.values())
            factors = 4 * inner * sum(map(sum, modules.values()))
            row: dict[str, Any] = {
                "adapters": count,
                **side_by_side(costs["compose"], costs["baseline"], speedup=False),
                "snapshot_seconds": costs["compose from snapshot"].seconds,
                "snapshot_cpu_seconds": costs["compose from snapshot"].cpu_seconds,
                "costs": {name: asdict(cost) for name, cost in costs.items()},
                "floor": rates.floor(2.0 * inner * outputs, factors + 8 * outputs),
            }
            rows.append(row)
            print(f"{count} adapters: {row['seconds'] * 1e3:.0f} ms, floor {row['baseline_seconds'] * 1e3:.0f} ms, "
                  f"from a snapshot {row['snapshot_seconds'] * 1e3:.0f} ms", file=sys.stderr, flush=True)  # fmt: skip
    headline = {key: value for key, value in rows[-1].items() if key != "costs"}
    curve = {row["adapters"]: row["cpu_seconds"] for row in rows}
    return {**part_figures(headline, RATIO_IS, sizes, rows), "exponent": fitted_exponent(curve)}


def measure_compose(place: Path, count: int, shape: Shape) -> dict[str, Cost]:
    """Composing a state with and without a snapshot, and the least that could be needed for it.

    Args:
        place: Where to make the ledger; it is removed afterwards.
        count: Number of adapters.
        shape: Their modules and rank.
    """
    build(place, count, shape)
    random = torch.Generator().manual_seed(0)
    base = {name: torch.randn(*size, generator=random) for name, size in shape.modules.items()}
    with Ledger.open(place) as ledger:
        digests = [entry.adapter for entry in ledger.active() if entry.adapter is not None]
        files = [place / "objects" / ledger.store.path(digest) / WEIGHTS for digest in digests]
        left = {n: torch.randn(d_out, count * shape.rank, generator=random) for n, (d_out, _) in shape.modules.items()}
        right = {n: torch.randn(count * shape.rank, d_in, generator=random) for n, (_, d_in) in shape.modules.items()}

        def least() -> dict[str, Tensor]:
            for file in files:
                file.read_bytes()
            return {name: left[name].double() @ right[name].double() for name in left}

        ledger.snapshots.policy = SnapshotPolicy(keep=0)
        ours, theirs = measure_both(lambda: ledger.compose(base), least)
        expected = ledger.compose(base)
        ledger.snapshots.policy = SnapshotPolicy(groups=1)
        writing = measure(lambda: ledger.compose(base), 1)
        near = measure(lambda: ledger.compose(base))
        if not all(torch.equal(weight, expected[name]) for name, weight in ledger.compose(base).items()):
            raise AssertionError("a snapshot gives other weights")
    shutil.rmtree(place)
    return {"compose": ours, "baseline": theirs, "compose and write a snapshot": writing, "compose from snapshot": near}


COMMAND = Command("compose", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
