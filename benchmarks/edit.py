"""A whole edit against the plain loop, by time and by memory: ``python -m benchmarks.edit --requests 256``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks.children import in_child
from benchmarks.figures import part_figures, side_by_side
from benchmarks.options import Command, size
from benchmarks.plain_loop import plain_edit, plain_solve
from benchmarks.plots import Plot
from benchmarks.timing import Cost, measure, measure_between, peak_bytes
from benchmarks.world import MODELS, Subject, requests, synthetic_moments
from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.facts.requests import Request
from seqedit.methods.interface import scratch
from seqedit.moments.second_moments import SecondMoments

RATIO_IS = (
    "baseline_seconds / seconds of a batch by memit with the preset, the least of all models; promised >= 5 for 256 "
    "requests; memory_ratio is peak_bytes / baseline_peak_bytes, each in a process of its own, promised <= 1.5"
)
PLOT = Plot("requests", {"cpu_seconds": "together", "baseline_cpu_seconds": "plain loop"}, ("model", "layers"))


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    models: tuple[str, ...] = size(MODELS, "shipped models, by their presets for memit")
    requests: int = size(256, "requests of one batch")
    baseline_requests: int = size(64, "most requests of the plain loop; what grows with them is scaled from these")
    several: tuple[int, ...] = size((1, 2, 3), "layers of a second edit, with the residual spread evenly")
    steps: int = size(0, "optimisation steps instead of the preset's; 0 for the preset's")


QUICK = Sizes(MODELS[1:], 4, 2, (), 3)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Measure the sizes; a row for each model with its preset, and one with several layers."""
    rows = []
    for name in sizes.models:
        rows.append(_row(_subject(name, (), sizes.steps), sizes) | {"preset": True})
        if sizes.several:
            rows.append(_row(_subject(name, sizes.several, sizes.steps), sizes) | {"preset": False})
    headline = min((row for row in rows if row["preset"]), key=lambda row: row["ratio"])
    for row in rows:
        if row["preset"]:
            row |= _memory(row["model"], sizes)
    worst = max((row for row in rows if row["preset"]), key=lambda row: row["memory_ratio"])
    memory = {key: worst[key] for key in worst if key.endswith(("_bytes", "peak_is", "memory_ratio", "above_start"))}
    return part_figures({**headline, **memory, "memory_of": worst["model"]}, RATIO_IS, sizes, rows) | {
        "second_moments": "synthetic"
    }


def _subject(name: str, layers: Sequence[int], steps: int) -> Subject:
    subject = Subject.load(name)
    config = subject.config
    config = replace(config, layers=tuple(layers), spread="even") if layers else config
    return replace(subject, config=replace(config, steps=steps) if steps else config)


def _row(subject: Subject, sizes: Sizes) -> dict[str, Any]:
    edits = requests(sizes.requests)
    few = edits[: sizes.baseline_requests]
    moments = _moments(subject)
    ours, whole = measure_between(lambda: _ours(subject, edits, moments), [lambda: _plain(subject, few, moments)])
    theirs = _scaled(subject, whole, len(few), len(edits), moments)
    row = {
        "model": subject.name,
        "layers": list(subject.config.layers),
        "requests": len(edits),
        **side_by_side(ours, theirs),
        "baseline_measured_on": len(few),
        "edits_per_second": len(edits) / ours.seconds,
    }
    print(f"{subject.name}, layers {row['layers']}, {len(edits)} requests: {ours.seconds:.2f} s, plain loop "
          f"{theirs.seconds:.2f} s, {row['ratio']:.1f} x", file=sys.stderr, flush=True)  # fmt: skip
    return row


def _scaled(subject: Subject, whole: Cost, few: int, count: int, moments: SecondMoments) -> Cost:
    """The plain loop's cost for more requests: all of it grows with them but the solves, which are measured."""
    if few == count:
        return whole
    small, large = _solves(subject, few, moments), _solves(subject, count, moments)
    factor = count / few
    return Cost(
        (whole.seconds - small.seconds) * factor + large.seconds,
        (whole.cpu_seconds - small.cpu_seconds) * factor + large.cpu_seconds,
    )


def _solves(subject: Subject, count: int, moments: SecondMoments) -> Cost:
    """The solves of all layers with so many keys."""
    total = Cost(0.0, 0.0)
    for matrix in moments.matrices.values():
        K, R = torch.randn(len(matrix), count).double(), torch.randn(subject.parts.hidden_size, count).double()
        cost = measure(partial(plain_solve, matrix.double(), K, R), 1)
        total = Cost(total.seconds + cost.seconds, total.cpu_seconds + cost.cpu_seconds)
    return total


def _moments(subject: Subject) -> SecondMoments:
    projections = subject.parts.projections_of(subject.config.layers)
    return synthetic_moments({p.name: p.matrix().shape[1] for p in projections})


def _ours(subject: Subject, edits: Sequence[Request], moments: SecondMoments) -> Adapter:
    """With the factor of C made anew, as in the first batch of a run."""
    return compute_adapter(
        subject.model, subject.tokenizer, edits, "memit", subject.config, base_model=BaseModel(subject.name, "0" * 64),
        second_moments=moments, context_templates=subject.contexts,
    )  # fmt: skip


def _plain(subject: Subject, edits: Sequence[Request], moments: SecondMoments) -> None:
    with scratch(subject.parts.projections_of(subject.config.layers)):
        plain_edit(subject.model, subject.parts, subject.tokenizer, edits, subject.contexts, subject.config, moments)


def memory_job(model: str, count: int, steps: int, plain: bool) -> dict[str, Any]:
    """In a process of its own: one edit, ours or the plain loop's."""
    subject = _subject(model, (), steps)
    edits, moments = requests(count), _moments(subject)
    before = peak_bytes()
    (_plain if plain else _ours)(subject, edits, moments)
    return {"before_bytes": before}


def _memory(model: str, sizes: Sizes) -> dict[str, Any]:
    """Peaks of both for the whole batch; what grows with the plain loop's requests are keys and values alone."""
    job = {"model": model, "steps": sizes.steps}
    ours = in_child("benchmarks.edit:memory_job", **job, count=sizes.requests, plain=False)
    few = min(sizes.requests, sizes.baseline_requests, 16)
    theirs = in_child("benchmarks.edit:memory_job", **job, count=few, plain=True)
    above = [max(1, one["peak_bytes"] - one["before_bytes"]) for one in (ours, theirs)]
    return {
        "peak_bytes": ours["peak_bytes"],
        "peak_is": "of a process that does this alone",
        "baseline_peak_bytes": theirs["peak_bytes"],
        "memory_ratio": ours["peak_bytes"] / theirs["peak_bytes"],
        "above_start_bytes": above[0],
        "baseline_above_start_bytes": above[1],
        "memory_ratio_above_start": above[0] / above[1],
    }


COMMAND = Command("edit", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
