"""Scoring records against one prompt at a time, and in two processes: ``python -m benchmarks.score --records 128``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import (
    Rates,
    fitted_exponent,
    matrix_parameters,
    measure_rates,
    part_figures,
    side_by_side,
)
from benchmarks.options import Command, size
from benchmarks.plain_scores import plain_scores
from benchmarks.plots import Plot
from benchmarks.timing import measure, measure_both
from benchmarks.world import MODELS, Subject, records
from evals.scores.counterfact import score_records
from seqedit.facts.requests import Record
from seqedit.text.tokenization import prompt_and_target_ids

RATIO_IS = (
    "baseline_seconds / seconds for the last number of records, the least of all models; the baseline is one forward "
    "pass for each prompt with each target; promised >= 4"
)
TWO_IS = (
    "baseline_seconds (one process) / seconds (two processes) of scoring tokenized records, as a run's steps do, "
    "one thread each; promised >= 1.7. Tokenizing is done once in a run, by the leader alone: with_tokenizing has it in"
)
PLOT = Plot("records", {"cpu_seconds": "score_records", "baseline_cpu_seconds": "one prompt at a time"}, ("model",))


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    models: tuple[str, ...] = size(MODELS, "shipped models")
    records: tuple[int, ...] = size((32, 128), "numbers of records; the last one is the headline's")
    baseline_records: int = size(128, "most records that are scored one prompt at a time; the rest is scaled")
    repeats: int = size(2, "runs of each, the least counts")
    two_records: int = size(512, "records of the comparison of two processes with one; 0 leaves it out")


QUICK = Sizes(MODELS[1:], (2,), 2, 1, 0)


def run(quick: bool) -> dict[str, Any]:
    """Measure on the documented sizes, or with ``quick`` on small ones."""
    return run_sizes(QUICK if quick else Sizes())


def run_sizes(sizes: Sizes) -> dict[str, Any]:
    """Measure the sizes; a row for each model and number of records, and ``two_processes``."""
    rates = measure_rates()
    rows = [_row(Subject.load(name), count, sizes, rates) for name in sizes.models for count in sizes.records]
    headline = min((r for r in rows if r["records"] == sizes.records[-1]), key=lambda row: row["ratio"])
    curve = {row["records"]: row["cpu_seconds"] for row in rows if row["model"] == headline["model"]}
    figures = {**part_figures(headline, RATIO_IS, sizes, rows), "exponent": fitted_exponent(curve)}
    if sizes.two_records:
        figures["two_processes"] = two_processes(sizes.models[-1], sizes.two_records, sizes.repeats)
    return figures


def _row(subject: Subject, count: int, sizes: Sizes, rates: Rates) -> dict[str, Any]:
    facts = records(count)
    few = facts[: sizes.baseline_records]
    ours, theirs = measure_both(
        lambda: score_records(subject.model, subject.tokenizer, facts),
        lambda: plain_scores(subject.model, subject.tokenizer, few),
        sizes.repeats,
    )
    batched = measure(lambda: plain_scores(subject.model, subject.tokenizer, few, by_record=True), 1)
    scale = count / len(few)
    row = {
        "model": subject.name,
        "records": count,
        **side_by_side(ours, theirs.times(scale)),
        "baseline_measured_on": len(few),
        "records_per_second": count / ours.seconds,
        "baseline_a_record_at_a_time": side_by_side(ours, batched.times(scale)),
        "floor": rates.floor(*_counted(subject, facts)),
    }
    print(f"{subject.name}, {count} records: {ours.seconds:.2f} s, {row['ratio']:.1f} x; a record at a time "
          f"{batched.times(scale).seconds:.2f} s", file=sys.stderr, flush=True)  # fmt: skip
    return row


def _counted(subject: Subject, facts: list[Record]) -> tuple[float, float]:
    """Products with weights: every distinct beginning of a text once, the LM head where a target is predicted."""
    seen: set[tuple[int, ...]] = set()
    scored: set[tuple[int, ...]] = set()
    for record in facts:
        true = record.request.target_true
        asked = [(record.request.text, true), *((p, true) for p in record.paraphrase_prompts)]
        asked += [(n.prompt, n.target_true or true) for n in record.neighborhood_prompts]
        for prompt, right in asked:
            for target in (record.request.target_new, right):
                if target is None:
                    continue
                context, continuation = prompt_and_target_ids(subject.tokenizer, prompt, target)
                ids = (*context, *continuation[:-1])
                seen.update(ids[:end] for end in range(1, len(ids) + 1))
                scored.update(ids[:end] for end in range(len(context), len(ids) + 1))
    matrices, head = sum(map(matrix_parameters, subject.parts.layers)), matrix_parameters(subject.parts.lm_head)
    item = next(subject.model.parameters()).element_size()
    return 2.0 * (len(seen) * matrices + len(scored) * head), item * (matrices + head)


def two_processes(model: str, count: int, repeats: int) -> dict[str, Any]:
    """Scoring by two processes of torchrun, with one thread each, against one process with one thread."""
    one, two = _in_processes(1, model, count, repeats), _in_processes(2, model, count, repeats)
    if one["S"] != two["S"]:
        raise AssertionError(f"two processes score S {two['S']}, one {one['S']}")
    ratio = one["seconds"] / two["seconds"]
    whole = [result["seconds"] + result["tokenizing"] for result in (one, two)]
    print(f"{model}, {count} records: two processes {two['seconds']:.2f} s, one {one['seconds']:.2f} s, {ratio:.2f} x "
          f"(with tokenizing {whole[0] / whole[1]:.2f} x)", file=sys.stderr, flush=True)  # fmt: skip
    return {
        "ratio": ratio, "ratio_is": TWO_IS, "seconds": two["seconds"], "baseline_seconds": one["seconds"],
        "model": model, "records": count, "threads": one["threads"], "started_by": "torchrun",
        "with_tokenizing": {"ratio": whole[0] / whole[1], "seconds": whole[1], "baseline_seconds": whole[0]},
    }  # fmt: skip


def _in_processes(number: int, model: str, count: int, repeats: int) -> dict[str, Any]:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)] if number > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, *start, "-m", "benchmarks.score_ranks", model, str(count), str(repeats), str(file)]
        # torchrun's own line on threads, and nothing else, goes to stderr.
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return result


COMMAND = Command("score", QUICK, Sizes(), run_sizes, PLOT.draw)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
