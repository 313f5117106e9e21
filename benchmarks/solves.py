"""One batch's solve with the factor of C at hand, against two ways without: ``python -m benchmarks.solves``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.figures import Rates, fitted_exponent, measure_rates, nbytes, part_figures, side_by_side
from benchmarks.options import Command, size
from benchmarks.plain_loop import plain_solve
from benchmarks.plots import Plot
from benchmarks.timing import measure, measure_both
from benchmarks.world import synthetic_moments
from seqedit.solver.closed_form import solve
from seqedit.solver.preconditioners import CholeskyPreconditioner
from seqedit.support.cholesky import cholesky

RATIO_IS = (
    "baseline_seconds / seconds of one batch on one layer, for the first width: the factor of C is at hand against "
    "forming C + K K^T and solving it as MEMIT's program does; no figure was promised"
)
PLOT = Plot("d_in", {"cpu_seconds": "factor at hand", "factoring_cpu_seconds": "factored anew",
                     "baseline_cpu_seconds": "C + K K^T solved"}, ("requests",))  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    d_in: tuple[int, ...] = size((1152, 4096), "widths of C; 28,672 takes about 30 GB for the baseline")
    requests: tuple[int, ...] = size((16, 256), "keys of one batch, the last one is the headline's")
    repeats: int = size(3, "runs of each, the least counts")


QUICK = Sizes((64, 128), (4,), 1)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Measure the sizes; a row for each width and number of keys. The second moments are synthetic."""
    rates = measure_rates(torch.float64)
    rows = []
    for width in sizes.d_in:
        C = synthetic_moments({"layer": width}).matrices["layer"].double()
        factor = cholesky(C)
        rows += [_row(C, factor, count, sizes.repeats, rates) for count in sizes.requests]
    headline = next(r for r in rows if r["d_in"] == sizes.d_in[0] and r["requests"] == sizes.requests[-1])
    curve = {row["d_in"]: row["cpu_seconds"] for row in rows if row["requests"] == sizes.requests[-1]}
    synthetic = {"exponent": fitted_exponent(curve), "second_moments": "synthetic"}
    return part_figures(headline, RATIO_IS, sizes, rows) | synthetic


def _row(C: torch.Tensor, factor: torch.Tensor, count: int, repeats: int, rates: Rates) -> dict[str, Any]:
    width = C.shape[0]
    random = torch.Generator().manual_seed(count)
    K = torch.randn(width, count, generator=random, dtype=torch.float64)
    R = torch.randn(max(1, width // 4), count, generator=random, dtype=torch.float64)
    ours, theirs = measure_both(
        lambda: solve(CholeskyPreconditioner(factor), K, R, 1.0), lambda: plain_solve(C, K, R), repeats
    )
    anew = measure(lambda: solve(CholeskyPreconditioner(cholesky(C)), K, R, 1.0), repeats)
    B, A = solve(CholeskyPreconditioner(factor), K, R, 1.0)
    expected = plain_solve(C, K, R)
    if float((B @ A - expected).norm()) > 1e-8 * float(expected.norm()):
        raise AssertionError("the two ways give different updates")
    # Two triangular solves, the Gram matrix and its factor, and the residuals; half of the factor is read.
    operations = 2 * width**2 * count + width * count**2 + count**3 / 3 + 2 * R.shape[0] * count**2
    row = {
        "d_in": width,
        "requests": count,
        **side_by_side(ours, theirs),
        "factoring_seconds": anew.seconds,
        "factoring_cpu_seconds": anew.cpu_seconds,
        "factoring_ratio": anew.seconds / ours.seconds,
        "factor_bytes": nbytes(factor),
        "baseline_bytes": 2 * nbytes(C),  # C and the matrix that is solved; LAPACK's copy of it is left out
        "floor": rates.floor(operations, nbytes(factor) + nbytes(K) + nbytes(R)),
    }
    print(f"d_in {width}, {count} keys: {ours.seconds * 1e3:.1f} ms, factored anew {anew.seconds * 1e3:.1f} ms, "
          f"C + K K^T solved {theirs.seconds * 1e3:.1f} ms", file=sys.stderr, flush=True)  # fmt: skip
    return row


COMMAND = Command("solves", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
