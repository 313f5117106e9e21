"""Bisection on the demo model: an entry planted to hurt CoLA is found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from evals.tasks.tasks import load_tasks
from ledger import Ledger
from seqedit.demo.location import resolve_demo_file
from seqedit.editing.settings import method_config
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.session.bisect import bisect_ledger
from seqedit.session.metrics import TaskMetric
from seqedit.session.session import Session


@pytest.mark.slow
@pytest.mark.parametrize("planted", [3, 7])
def test_an_entry_planted_to_hurt_cola_is_found_with_few_evaluations(planted: int, tmp_path: Path) -> None:
    facts = load_records("demo:counterfact.json")
    random.Random(0).shuffle(facts)
    edited = EditedModel(*load_model("demo-llama"), name="demo-llama")
    good = method_config("ft", preset="demo-llama")
    bad = method_config("ft", settings={"layers": [0], "learning_rate": 2e-2, "steps": 40, "stop_below": 0.0})
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        session = Session(edited, ledger, None, context_templates=[["{}"]])
        entries = [
            session.edit(requests_of(facts[4 * i : 4 * i + 4]), "ft", bad if i == planted else good).id
            for i in range(10)
        ]
        tasks = load_tasks(["cola"], {"cola": resolve_demo_file("demo:tasks/cola.jsonl")})
        found = bisect_ledger(ledger, TaskMetric("cola", "mcc", tasks), ledger.root(), session=session)
    assert found.first_bad == entries[planted]
    assert len(found.values) <= 6
    assert found.values[found.last_good] - found.values[found.first_bad] > 0.1
