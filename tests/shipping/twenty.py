"""A ledger of 20 entries on a demo model, made in seconds: two facts each, few steps, and damage that shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from evals.tasks.tasks import load_tasks
from ledger import Ledger
from seqedit.demo.location import demo_file
from seqedit.editing.settings import method_config
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record, requests_of
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.second_moments import SecondMoments
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.kinds import KIND_OUTCOMES
from seqedit.scoring.settings import EvalSettings
from seqedit.session.session import Session

ENTRIES = 20
BATCH = 2
# An edit that hurts: scores that the unedited model has too would prove nothing.
SETTINGS = {
    "gpt2": ["steps=4"],
    "llama": ["steps=4", "second_moment_weight=0.3", "learning_rate=8", "clamp_norm_factor=40"],
}


def facts() -> list[Record]:
    """Facts of all relations of the demo world, an entry's worth for each entry."""
    records = load_records("demo:counterfact.json")
    return records[:: len(records) // (ENTRIES * BATCH)][: ENTRIES * BATCH]


def build(place: Path, style: str, *, tasks: Sequence[str] = ("cola",)) -> EditedModel:
    """Make the ledger, with scores of its root and of its last state; returns the model in that state."""
    edited = EditedModel(*load_model(f"demo-{style}", device="cpu"), name=f"demo-{style}")
    (projection,) = edited.parts.projections_of((0,))
    # What the second moments are does not matter here; measuring them would take most of the time.
    moments = SecondMoments({projection.name: 0.05 * torch.eye(projection.matrix().shape[1])})
    config = method_config("memit", preset=f"demo-{style}", assignments=SETTINGS[style])
    loaded = load_tasks(tasks, {task: demo_file(f"tasks/{task}.jsonl") for task in tasks})
    evaluator = Evaluator(edited.tokenizer, EvalSettings(generation=False, resamples=100), tasks=loaded)
    records = facts()
    with Ledger.create(place, edited.base_model) as ledger:
        session = Session(edited, ledger, moments, context_templates=[["{}"]])
        session.record_scores(ledger.root(), evaluator.baseline(edited.model, records))
        by_entry = {}
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            entry = session.edit(requests_of(batch), "memit", config, message=f"batch {start // BATCH + 1}")
            by_entry[entry.id] = batch
        baseline = ledger.scores(ledger.root(), KIND_OUTCOMES)[KIND_OUTCOMES]
        session.score(evaluator, by_entry, baseline)
    return edited


def task_yaml(folder: Path, name: str) -> Path:
    """A task file for stock lm-eval: the packaged task, on the demo world's documents."""
    import lm_eval.tasks

    packaged = Path(lm_eval.tasks.__file__).parent / "glue" / name / "default.yaml"
    file = folder / f"demo_{name}.yaml"
    file.write_text(
        f"include: {packaged}\ntask: demo_{name}\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs:\n  data_files:\n    validation: {demo_file(f'tasks/{name}.jsonl')}\n"
        "training_split: null\n"
    )
    return file
