"""Target values of a batch against one request at a time: ``python -m benchmarks.target_values --requests 64,512``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.children import in_child
from benchmarks.figures import (
    Rates,
    fitted_exponent,
    matrix_parameters,
    measure_rates,
    part_figures,
    side_by_side,
)
from benchmarks.options import Command, size
from benchmarks.plain_loop import plain_target_values
from benchmarks.plots import Plot
from benchmarks.timing import Cost, measure, measure_between
from benchmarks.world import MODELS, Subject, groups_of, requests
from seqedit.facts.requests import Request
from seqedit.targets.values import TargetValues, optimise_target_values
from seqedit.text.lookup import tokenize_kl_prompt, tokenize_request

RATIO_IS = (
    "baseline_seconds / seconds for the first number of requests, the least of all models at their presets' layers; "
    "promised >= 8 for 64 requests, >= 10 for 512"
)
PLOT = Plot("requests", {"cpu_seconds": "together", "baseline_cpu_seconds": "one at a time"}, ("model", "layer"))


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    models: tuple[str, ...] = size(MODELS, "shipped models, by their presets for memit")
    requests: tuple[int, ...] = size((64, 512), "numbers of requests that are compared with the plain loop")
    baseline_requests: int = size(64, "most requests of the plain loop; larger sizes are scaled from these")
    growth: tuple[int, ...] = size((64, 128, 256, 512, 1024), "numbers of requests for the exponent")
    steps: int = size(0, "optimisation steps instead of the preset's; 0 for the preset's")
    middle: bool = size(True, "measure a middle layer too")
    pieces: int = size(2, "pieces that the plain loop is cut into, with a run of ours around each")


QUICK = Sizes(MODELS[1:], (4,), 2, (4, 8), steps=4, middle=False, pieces=1)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Measure the sizes; ``sizes`` of the result has a row for each model, layer and number of requests."""
    rates = measure_rates()
    rows = []
    for name in sizes.models:
        subject = _with_steps(Subject.load(name), sizes.steps)
        preset = max(subject.config.layers)
        # Only the preset's layer shows the growth: one layer grows as another.
        rows += _rows(subject, preset, sizes, sizes.growth, rates)
        if sizes.middle:
            rows += [{**row, "preset": False} for row in _rows(subject, subject.middle, sizes, (), rates)]
    headline = min((r for r in rows if r["requests"] == sizes.requests[0] and r["preset"]), key=lambda r: r["ratio"])
    curves = {
        name: {
            row["requests"]: row["cpu_seconds"]
            for row in rows
            if row["model"] == name and row["preset"] and row["requests"] in sizes.growth
        }
        for name in sizes.models
    }
    exponents = {name: fitted_exponent(curve) for name, curve in curves.items()}
    return {
        **part_figures({**headline, **_memory(headline["model"], sizes)}, RATIO_IS, sizes, rows),
        "exponent": max((k for k in exponents.values() if k is not None), default=None),
        "exponents": exponents,
    }


def _with_steps(subject: Subject, steps: int) -> Subject:
    return replace(subject, config=replace(subject.config, steps=steps)) if steps else subject


def _rows(subject: Subject, layer: int, sizes: Sizes, growth: Sequence[int], rates: Rates) -> list[dict[str, Any]]:
    """One model and layer: the sizes that are compared with the plain loop, and those of the growth."""
    edits = requests(max((*sizes.requests, *growth)))
    compared = edits[: min(sizes.baseline_requests, *sizes.requests)]
    pieces = [_plain(subject, piece, layer) for piece in groups_of(compared, sizes.pieces)]
    theirs: Cost | None = None
    rows = []
    for count in (*sizes.requests, *(n for n in growth if n not in sizes.requests)):
        found: list[TargetValues] = []

        def work(chosen: Sequence[Request] = edits[:count], found: list[TargetValues] = found) -> None:
            found.append(_ours(subject, chosen, layer))

        if theirs is None:
            ours, theirs = measure_between(work, pieces)
        else:
            ours = measure(work, 1)
        row = {"model": subject.name, "layer": layer, "requests": count, "preset": True}
        if count in sizes.requests:
            row |= side_by_side(ours, theirs.times(count / len(compared)))
            row["baseline_measured_on"] = len(compared)
        row |= {"seconds": ours.seconds, "cpu_seconds": ours.cpu_seconds, "per_second": count / ours.seconds}
        row["floor"] = rates.floor(*counted(subject, edits[:count], layer, found[-1]))
        row["updates_per_request"] = sum(found[-1].updates) / count
        rows.append(row)
        _tell(row)
    return rows


def _ours(subject: Subject, edits: Sequence[Request], layer: int) -> TargetValues:
    return optimise_target_values(
        subject.model, subject.parts, subject.tokenizer, edits, subject.contexts, layer, subject.config
    )


def _plain(subject: Subject, edits: Sequence[Request], layer: int) -> Any:
    return lambda: plain_target_values(
        subject.model, subject.parts, subject.tokenizer, edits, subject.contexts, layer, subject.config
    )


def counted(subject: Any, edits: Sequence[Request], layer: int, found: TargetValues) -> tuple[float, float]:
    """Operations and bytes that the optimisation cannot do without.

    Counted are the products with weights: once per prompt up to layer L, and above it for the tokens before the
    lookup token; then in every step, forward and backward to the perturbation, the layers above L for the tokens from
    the lookup token to the last one that carries loss, and the LM head where there is loss. Attention's own products
    are left out. The weights above L are read twice per step.
    """
    below = sum(matrix_parameters(module) for module in subject.parts.layers[: layer + 1])
    above = sum(matrix_parameters(module) for module in subject.parts.layers[layer + 1 :])
    head = matrix_parameters(subject.parts.lm_head)
    operations = 0.0
    for request, updates in zip(edits, found.updates, strict=True):
        prompts = [
            tokenize_request(subject.tokenizer, request, c, with_target=True) for g in subject.contexts for c in g
        ]
        prompts.append(tokenize_kl_prompt(subject.tokenizer, request))
        tokens, before = sum(len(p.ids) for p in prompts), sum(p.lookup for p in prompts)
        again = sum((p.target_start + len(p.target_ids) if p.target_ids else p.lookup + 1) - p.lookup for p in prompts)
        scored = sum(len(p.target_ids) or 1 for p in prompts)
        operations += 2 * (tokens * below + before * above)
        operations += (2 * (updates + 1) + 2 * updates) * (again * above + scored * head)
    item = next(subject.model.parameters()).element_size()
    return operations, 2.0 * item * (above + head) * (max(found.updates) + 1)


def memory_job(model: str, count: int, steps: int, plain: bool) -> dict[str, Any]:
    """In a process of its own: target values of some requests, together or one at a time."""
    subject = _with_steps(Subject.load(model), steps)
    edits, layer = requests(count), max(subject.config.layers)
    _plain(subject, edits, layer)() if plain else _ours(subject, edits, layer)
    return {"threads": torch.get_num_threads()}


def _memory(model: str, sizes: Sizes) -> dict[str, Any]:
    """Peaks of both, each in its own process; the plain loop's does not depend on the number of requests."""
    job = {"model": model, "steps": sizes.steps}
    count = max(sizes.requests)
    ours = in_child("benchmarks.target_values:memory_job", **job, count=count, plain=False)["peak_bytes"]
    few = min(2, count)
    theirs = in_child("benchmarks.target_values:memory_job", **job, count=few, plain=True)["peak_bytes"]
    return {
        "peak_bytes": ours,
        "peak_is": "of a process that does this alone",
        "baseline_peak_bytes": theirs,
        "memory_ratio": ours / theirs,
        "peak_requests": count,
    }


def _tell(row: dict[str, Any]) -> None:
    ratio = f"{row['ratio']:>8.2f} x" if "ratio" in row else ""
    place = f"{row['model']}, layer {row['layer']}, {row['requests']} requests"
    print(f"{place:<44}{row['seconds']:>10.2f} s{row['cpu_seconds']:>10.2f} s processor{ratio}",
          file=sys.stderr, flush=True)  # fmt: skip


COMMAND = Command("target_values", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
