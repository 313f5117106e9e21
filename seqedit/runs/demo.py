"""The demonstration: the same facts edited by EMMET and by MEMIT, step by step, on a shipped model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from evals.report.report import write_report
from seqedit.demo.location import demo_folder
from seqedit.editing.rule import planned
from seqedit.errors import InputError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record
from seqedit.models.edited import EditedModel
from seqedit.models.names import check_demo
from seqedit.models.unloaded import check_model
from seqedit.parallel.ranks import Ranks
from seqedit.runs.config import ROOT, RunConfig, run_config
from seqedit.runs.preparation import check_start
from seqedit.runs.runner import run
from seqedit.scoring.summary import write_summary
from seqedit.scoring.summary_types import RunSummary, StepSummary


class Observer(Protocol):
    """Who is told how the demonstration goes on."""

    def title(self, text: str) -> None:
        """A method begins."""

    def baseline(self, baseline: dict[str, Any]) -> None:
        """The unedited model was scored."""

    def step(self, step: StepSummary) -> None:
        """A step was made and scored."""


METHODS = ("emmet", "memit")
TASKS = ("cola", "sst2", "mrpc", "rte")


def demo_config(method: str, out: Path, *, model: str, steps: int, batch_size: int, seed: int = 0) -> RunConfig:
    """The run of one method on the demo world, with the settings of the shipped preset."""
    check_demo(model)
    world = demo_folder()
    return run_config(
        {
            "model": model,
            "facts": str(world / "counterfact.json"),
            "method": method,
            "preset": model,
            "batch_size": batch_size,
            "steps": steps,
            "tasks": {name: str(world / "tasks" / f"{name}.jsonl") for name in TASKS},
            # Few enough that the whole demonstration takes minutes.
            "evals": {"task_documents": 150, "generation_records": 8, "generation_tokens": 30},
            "second_moments": {"text": str(world / "corpus.txt")},
            "ledger": str(out.absolute() / "ledger"),
            "branch": method,
            "onto": ROOT,
            "out": str(out.absolute() / method),
            "seed": seed,
            "title": f"{method.upper()} on the demo world",
        },
        Path.cwd(),
    )


def run_demo(
    out: Path,
    observer: Observer,
    *,
    model: str,
    steps: int,
    batch_size: int,
    resume: bool = False,
    methods: Sequence[str] = METHODS,
    ranks: Ranks | None = None,
) -> tuple[RunSummary, Path]:
    """Run every method and write one summary and one report.

    Returns:
        The summary (of the first method, with all of them under "runs") and the path of the report.
    """
    runs: dict[str, RunSummary] = {}
    configs, records = _prepared(out, model, steps, batch_size, methods)
    ranks = ranks or Ranks()
    loaded = EditedModel(*ranks.load_model(model), name=model)
    for method, config in zip(methods, configs, strict=True):
        observer.title(f"{config.title}: {steps} batches of {batch_size}")
        runs[method] = run(
            config, resume=resume, on_baseline=observer.baseline, on_step=observer.step, records=records, edited=loaded,
            ranks=ranks,
        )  # fmt: skip
    summary: RunSummary = {**runs[methods[0]], "runs": runs}
    write_summary(out / "summary.json", summary)
    return summary, write_report(runs, out)


def _prepared(
    out: Path, model: str, steps: int, batch_size: int, methods: Sequence[str]
) -> tuple[list[RunConfig], list[Record]]:
    """The runs of a demonstration, and their facts."""
    configs = [demo_config(method, out, model=model, steps=steps, batch_size=batch_size) for method in methods]
    records = load_records(configs[0].facts)
    random.Random(configs[0].seed).shuffle(records)  # the file has one relation after the other
    return configs, distinct_records(records, steps * batch_size)


def plan_demo(out: Path, *, model: str, steps: int, batch_size: int, resume: bool = False) -> dict[str, Any]:
    """What `run_demo` would do, as JSON types; no model is loaded and nothing is written.

    Raises:
        InputError: what `run_demo` would refuse before its first step.
    """
    configs, records = _prepared(out, model, steps, batch_size, METHODS)
    for config in configs:
        parts = check_model(config.model)
        parts.check_layers(planned(config.settings, parts).config.layers)
        check_start(config, resume=resume)
    files = [str(out / name) for name in ("ledger", "summary.json", "report.html")]
    return {
        "operation": "demo", "model": model, "methods": list(METHODS), "steps": steps, "facts": len(records),
        "tasks": list(TASKS), "files": files,
    }  # fmt: skip


def distinct_records(records: Sequence[Record], count: int) -> list[Record]:
    """The first records of which no edited fact is a neighbour of another's.

    A neighbour that is itself edited has another answer afterwards, and would count as damage that is none.
    """
    chosen: list[Record] = []
    for record in records:
        if any(_meddles(record, other) or _meddles(other, record) for other in chosen):
            continue
        chosen.append(record)
        if len(chosen) == count:
            return chosen
    raise InputError(f"the facts give only {len(chosen)} records whose neighbours are not edited, {count} are needed")


def _meddles(record: Record, other: Record) -> bool:
    """Whether one record edits a fact that is among the other's neighbours, or its fact itself."""
    edited, theirs = record.request, other.request
    if edited.relation != theirs.relation:
        return False
    return edited.subject == theirs.subject or any(edited.subject in n.prompt for n in other.neighborhood_prompts)
