"""Which `second_moment_weight` a sequence of edits wants, with and without protected earlier edits, on the demo world.

    python examples/weight_study.py --methods memit emmet --weights 10 30 100 300 1000 --out out/weight-study

The facts are those that follow the first ``--skip`` of the shuffled file, so that settings are not chosen on the facts
that examples/demo-compare.yaml reports. Every row is a sequence of its own; all facts are scored where all batches are
in force, and CoLA is measured there. Rows that ``--out`` holds already are kept, so an interrupted study goes on.
The table of docs/measured/comparison.md was made by it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.scores.counterfact import score_records
from evals.statistics.changes import task_changes
from evals.tasks.tasks import evaluate_tasks, load_tasks
from ledger import Ledger
from seqedit.demo.location import resolve_demo_file
from seqedit.editing.settings import method_config
from seqedit.errors import NumericsError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import provide_second_moments
from seqedit.session.session import Session

COLUMNS = ("S", "ES", "PS", "NS", "cola", "norm of the last delta")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo-llama")
    parser.add_argument("--methods", nargs="+", default=["memit", "emmet"], help="closed forms")
    parser.add_argument("--weights", nargs="+", type=float, default=[10, 30, 100, 300, 1000])
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--skip", type=int, default=512, help="facts at the beginning of the order that are not used")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the facts")
    parser.add_argument("--out", type=Path, default=Path("out/weight-study"))
    given = parser.parse_args()

    facts = load_records("demo:counterfact.json")
    random.Random(given.seed).shuffle(facts)
    facts = facts[given.skip : given.skip + given.batches * given.batch_size]
    batches = [facts[i : i + given.batch_size] for i in range(0, len(facts), given.batch_size)]
    edited = EditedModel(*load_model(given.model), name=given.model)
    tasks = load_tasks(["cola"], {"cola": str(resolve_demo_file("demo:tasks/cola.jsonl"))})
    unedited = evaluate_tasks(edited.model, edited.tokenizer, tasks)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = given.out / "rows.jsonl"
    known = {}
    if rows.is_file():
        known = {json.loads(line)["row"]: json.loads(line) for line in rows.read_text("utf-8").splitlines()}
    print("| method | weight | protected | " + " | ".join(COLUMNS) + " |")
    print("|---|---:|---|" + "---:|" * len(COLUMNS))
    for method in given.methods:
        for weight in given.weights:
            for protected in (False, True):
                name = f"{method} {weight:g} {'yes' if protected else 'no'}"
                if name not in known:
                    preset = method_config(method, preset=given.model)
                    config = replace(preset, second_moment_weight=weight, protect_earlier=protected)
                    edited.write({})
                    figures = _sequence(edited, given, method, config, batches, facts, tasks, unedited)
                    known[name] = {"row": name, **figures}
                    with rows.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(known[name]) + "\n")
                print(f"| {' | '.join(name.split())} | " + " | ".join(_text(known[name], c) for c in COLUMNS) + " |")


def _text(row: dict[str, Any], column: str) -> str:
    if "broke off" in row:
        return "broke off"
    return f"{row[column]:.2f}" if column == "cola" else f"{row[column]:.1f}"


def _sequence(edited: EditedModel, given: Any, method: str, config: Any, batches: Any, facts: Any, tasks: Any,
              unedited: Any) -> dict[str, Any]:  # fmt: skip
    """One row: all batches in sequence in a ledger of their own, scored at the end."""
    place = given.out / "ledger"
    shutil.rmtree(place, ignore_errors=True)
    moments = provide_second_moments(edited, config.layers)
    with Ledger.create(place, edited.base_model) as ledger:
        session = Session(edited, ledger, moments)
        try:
            for batch in batches:
                entry = session.edit(requests_of(batch), method, config)
        except NumericsError as error:
            return {"broke off": str(error)}
        scores = score_records(edited.model, edited.tokenizer, facts).summary
        cola = task_changes(evaluate_tasks(edited.model, edited.tokenizer, tasks)["cola"], unedited["cola"])
        delta = [d.dense() for d in ledger.adapter(entry.id).deltas.values()]
        norm = sum(float(d.square().sum()) for d in delta) ** 0.5
    shutil.rmtree(place, ignore_errors=True)
    figures = {name: scores[name] for name in ("S", "ES", "PS", "NS")}
    return {**figures, "cola": cola["mcc"], "norm of the last delta": norm}


if __name__ == "__main__":
    main()
