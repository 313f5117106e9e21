"""MEMIT on random weights of published sizes, on an accelerator: ``python -m benchmarks.gpu --requests 1000``.

``--device cpu`` measures the same at any size where there is none; ``--quick`` does so with tiny models.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from benchmarks.big_models import SHAPES, big_subject
from benchmarks.figures import measure_rates, part_figures, side_by_side
from benchmarks.options import Command, size
from benchmarks.plain_loop import plain_keys, plain_outputs, plain_solve, plain_target_values
from benchmarks.plots import Plot
from benchmarks.target_values import counted
from benchmarks.timing import Cost, measure
from benchmarks.world import Subject, requests, synthetic_moments
from seqedit.adapters.adapter import BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.facts.requests import Request
from seqedit.moments.second_moments import SecondMoments
from seqedit.solver.closed_form import solve
from seqedit.solver.preconditioners import CholeskyPreconditioner
from seqedit.support.cholesky import cholesky
from seqedit.targets.values import TargetValues, optimise_target_values

RATIO_IS = (
    "baseline_seconds / seconds per edit by memit with the preset, for GPT-J's shape where it is measured; the plain "
    "loop does a few requests, its solve is of the whole batch; promised >= 20"
)
PLOT = Plot("model", {"seconds": "together", "baseline_seconds": "plain loop"}, ("dtype",), "seconds per edit")
HEADLINE = "gpt-j-6b"


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    models: tuple[str, ...] = size(tuple(SHAPES), "shapes, which are also presets")
    dtypes: tuple[str, ...] = size(("bfloat16", "float32"), "types of the weights; the first is the headline's")
    requests: int = size(1000, "requests of one batch")
    baseline_requests: int = size(4, "requests of the plain loop")
    extrapolated: int = size(10_000, "edits whose time is extrapolated; their solve is measured")
    max_tokens: int = size(32_768, "padded tokens of one forward pass")
    device: str = size("cuda", "device")
    tiny: bool = size(False, "tiny models, to see that it works")


QUICK = Sizes(tuple(SHAPES), ("float32",), 3, 1, 8, 8192, "cpu", True)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes; with ``quick`` on tiny models, on the processor."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Measure the sizes; a row for each model and dtype. Without the device asked for: ``skipped``, the reason."""
    if sizes.device.startswith("cuda") and not torch.cuda.is_available():
        reason = "needs an accelerator (CUDA), this machine has none; --quick or --device cpu show that it works"
        print(reason, file=sys.stderr)
        return {"skipped": reason}
    rows = []
    for name, dtype in product(sizes.models, sizes.dtypes):
        rows.append(_row(big_subject(name, dtype, sizes.device, tiny=sizes.tiny), dtype, sizes))
        gc.collect()  # the next model needs the room
        torch.cuda.empty_cache()
    headline = next((row for row in rows if row["model"] == HEADLINE), rows[0])
    return part_figures(headline, RATIO_IS, sizes, rows) | {"second_moments": "synthetic", "weights": "random"}


def _row(subject: Subject, dtype: str, sizes: Sizes) -> dict[str, Any]:
    edits, layers = requests(sizes.requests), subject.config.layers
    rates = measure_rates(getattr(torch, dtype), 256 if sizes.tiny else 8192, sizes.device)
    found: list[TargetValues] = []

    def values(chosen: Sequence[Request]) -> None:
        found.append(
            optimise_target_values(
                subject.model, subject.parts, subject.tokenizer, chosen, subject.contexts, max(layers), subject.config,
                max_tokens=sizes.max_tokens,
            )
        )  # fmt: skip

    values(edits[: sizes.baseline_requests])  # kernels are chosen and memory is taken in the first run
    _reset_device_peak(sizes.device)
    optimising = measure(lambda: values(edits), 1)
    projections = subject.parts.projections_of(layers)
    moments = synthetic_moments({p.name: p.matrix().shape[1] for p in projections}, sizes.device)
    rest = measure(lambda: _edit(subject, edits, moments, found[-1], sizes), 1)
    seconds, peak = optimising.seconds + rest.seconds, _device_peak(sizes.device)
    theirs, solving = _plain(subject, edits[: sizes.baseline_requests], len(edits), sizes)
    per_edit = Cost(seconds / len(edits), (optimising.cpu_seconds + rest.cpu_seconds) / len(edits))
    operations, moved = counted(subject, edits, max(layers), found[-1])
    row: dict[str, Any] = {
        "model": subject.name,
        "dtype": dtype,
        "layers": list(layers),
        "requests": len(edits),
        **side_by_side(per_edit, theirs),
        "baseline_measured_on": sizes.baseline_requests,
        "baseline_solve_seconds": solving,
        "target_values_seconds": optimising.seconds,
        "keys_and_solves_seconds": rest.seconds,
        "extrapolated": _extrapolated(subject, seconds, sizes),
        "peak_rate_share": operations / optimising.seconds / rates.operations,
        "device_peak_bytes": peak,
        "floor": rates.floor(operations, moved),
        "updates_per_request": sum(found[-1].updates) / len(edits),
    }
    print(f"{subject.name}, {dtype}, {len(edits)} requests: {seconds:.1f} s, {row['ratio']:.1f} x per edit, "
          f"{100 * row['peak_rate_share']:.1f} % of the peak rate, {sizes.extrapolated} edits in "
          f"{row['extrapolated']['seconds'] / 60:.1f} minutes", file=sys.stderr, flush=True)  # fmt: skip
    return row


def _edit(
    subject: Subject, edits: Sequence[Request], moments: SecondMoments, found: TargetValues, sizes: Sizes
) -> None:
    """All of an edit but the target values: keys, residuals, factors, solves, the adapter."""
    compute_adapter(
        subject.model, subject.tokenizer, edits, "memit", subject.config,
        base_model=BaseModel(subject.name, "0" * 64), second_moments=moments, context_templates=subject.contexts,
        max_tokens=sizes.max_tokens, target_values=found.values,
    )  # fmt: skip


def _plain(subject: Subject, few: Sequence[Request], batch: int, sizes: Sizes) -> tuple[Cost, float]:
    """The plain loop's cost per edit in a batch of so many, and the seconds of that batch's solves."""
    model, parts, tokenizer, layers = subject.model, subject.parts, subject.tokenizer, subject.config.layers

    def work() -> None:
        plain_target_values(model, parts, tokenizer, few, subject.contexts, max(layers), subject.config)
        for layer in layers:
            plain_keys(model, parts, tokenizer, few, subject.contexts, layer)
            plain_outputs(model, parts, tokenizer, few, max(layers))

    plain_target_values(model, parts, tokenizer, few[:1], subject.contexts, max(layers), subject.config)  # as above
    cost = measure(work, 1)
    d_out, d_in = parts.projections[max(layers)].matrix().shape
    C = synthetic_moments({"layer": d_in}, sizes.device).matrices["layer"].double()
    K, R = (torch.randn(d, batch, device=sizes.device).double() for d in (d_in, d_out))
    solving = measure(lambda: plain_solve(C, K, R), 1).times(len(layers))
    each, share = cost.times(1 / len(few)), solving.times(1 / batch)
    return Cost(each.seconds + share.seconds, each.cpu_seconds + share.cpu_seconds), solving.seconds


def _extrapolated(subject: Subject, seconds: float, sizes: Sizes) -> dict[str, float]:
    """Time of more edits in one batch: all that was measured scaled up, and the larger solves, which do not scale."""
    d_out, d_in = subject.parts.projections[max(subject.config.layers)].matrix().shape
    count = sizes.extrapolated
    factor = cholesky(synthetic_moments({"layer": d_in}, sizes.device).matrices["layer"].double())
    K, R = (torch.randn(d, count, device=sizes.device).double() for d in (d_in, d_out))
    solving = measure(lambda: solve(CholeskyPreconditioner(factor), K, R, 1.0), 1)
    scaled, solves = seconds * count / sizes.requests, solving.seconds * len(subject.config.layers)
    return {"edits": count, "seconds": scaled + solves, "scaled_seconds": scaled, "solve_seconds": solves}


def _reset_device_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def _device_peak(device: str) -> int | None:
    """Most bytes that tensors had on the accelerator; None without one."""
    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else None


COMMAND = Command("gpu", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
