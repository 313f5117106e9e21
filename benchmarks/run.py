"""A short whole run with scoring, seconds by part: ``python -m benchmarks.run --steps 3 --batch-size 16``."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import part_figures
from benchmarks.options import Command, size
from benchmarks.plots import Plot
from benchmarks.timing import Cost, measure
from benchmarks.world import records
from seqedit.demo.location import demo_file
from seqedit.runs.config import RunConfig, run_config
from seqedit.runs.runner import run as run_whole

RATIO_IS = (
    "seconds of the whole run / baseline_seconds, the sum of what its steps say they took; the rest is loading, the "
    "second moments, the unedited model's scores and the ledger; no figure was promised"
)
PLOT = Plot("step", {"seconds": "whole step", "edit_seconds": "edit"}, ("model",), "seconds")


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    model: str = size("demo-llama", "shipped model, by its preset")
    method: str = size("memit", "editing method")
    steps: int = size(3, "batches")
    batch_size: int = size(16, "requests of a batch")
    tasks: tuple[str, ...] = size(("cola", "sst2"), "lm-eval tasks of the demo world")
    documents: int = size(100, "documents of each task")
    text_tokens: int = size(100_000, "tokens of text for the second moments")
    optimisation_steps: int = size(0, "optimisation steps instead of the preset's; 0 for the preset's")


QUICK = Sizes(steps=1, batch_size=2, tasks=(), documents=1, text_tokens=2_000, optimisation_steps=3)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Run once; ``sizes`` of the result has a row for each step, with the seconds of its parts."""
    summary: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = _config(sizes, Path(folder))
        facts = records(sizes.steps * sizes.batch_size)
        whole = measure(lambda: summary.update(run_whole(config, records=facts)), 1)
    rows = [_row(sizes, step) for step in summary["steps"]]
    parts: dict[str, float] = {}
    for row in rows:
        for name, seconds in row["timings"].items():
            parts[name] = parts.get(name, 0.0) + seconds
    told = sum(parts.values())
    for name, seconds in {**parts, "everything else": whole.seconds - told}.items():
        print(f"{name:<24}{seconds:>10.2f} s", file=sys.stderr, flush=True)
    return part_figures(_headline(whole, told, rows), RATIO_IS, sizes, rows) | {"by_part": parts}


def _config(sizes: Sizes, folder: Path) -> RunConfig:
    settings = {"steps": sizes.optimisation_steps} if sizes.optimisation_steps else {}
    return run_config(
        {
            "model": sizes.model, "facts": "demo:counterfact.json", "method": sizes.method, "preset": sizes.model,
            "settings": settings, "batch_size": sizes.batch_size, "steps": sizes.steps, "device": "cpu",
            "tasks": {name: f"demo:tasks/{name}.jsonl" for name in sizes.tasks},
            "evals": {"task_documents": sizes.documents, "generation_records": 4, "generation_tokens": 20},
            "second_moments": {"text": str(demo_file("corpus.txt")), "max_tokens": sizes.text_tokens},
            "ledger": str(folder / "ledger"), "out": str(folder / "out"),
        },
        folder,
    )  # fmt: skip


def _row(sizes: Sizes, step: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": sizes.model,
        "step": step["step"],
        "requests": step["requests"],
        "seconds": step["seconds"],
        "edit_seconds": step["timings"].get("edit"),
        "timings": step["timings"],
        "ES": step["ES"],
    }


def _headline(whole: Cost, told: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "ratio": whole.seconds / told,
        "seconds": whole.seconds,
        "baseline_seconds": told,
        "cpu_seconds": whole.cpu_seconds,
        "requests": sum(row["requests"] for row in rows),
    }


COMMAND = Command("run", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
