"""A run in clustered order: near keys share a step, a resumed run finds the same steps, wrong words are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger import Ledger
from seqedit.cli.main import run
from seqedit.comparing.compare_config import compare_config
from seqedit.errors import InputError
from seqedit.runs.config import read_run_config
from tests.conftest import REFERENCE

NAMES = ("Venxa Ulmigri", "Bado Holul", "Bribri Drabazor", "Olm Tarko")
FACTS = [
    {"subject": name, "prompt": prompt, "target_new": target, "relation": prompt}
    for prompt, target in (("{} plays the sport of", "golf"), ("{} was born in", "rowing"))
    for name in NAMES
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, FACTS)))
    settings = {"layers": [1], "steps": 3, "second_moment_weight": 50}
    configuration = {
        "model": str(REFERENCE / "model"), "facts": "facts.jsonl", "method": "memit", "batch_size": 2, "out": "out",
        "settings": settings, "second_moments": {"file": str(REFERENCE / "second_moments.safetensors")},
        "context_templates": [["{}"], ["It rained. {}"]], "order": "clustered",
        "evals": {"counterfact": True, "generation": False, "drift": False},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(configuration))
    return tmp_path


def _steps(folder: Path) -> list[tuple[str, ...]]:
    with Ledger.open(folder / "out" / "ledger") as ledger:
        return [tuple(request.text for request in entry.requests) for entry in ledger.active()]


def test_facts_of_one_subject_share_a_step_and_resuming_finds_the_same_steps(folder: Path, capsys: Any) -> None:
    assert run(["run", str(folder / "run.yaml")]) == 0
    steps = _steps(folder)
    # Eight facts of four subjects, whose keys are all but the same whatever the prompt goes on with.
    assert sorted(steps) == sorted((f"{name} plays the sport of", f"{name} was born in") for name in NAMES)
    assert run(["run", str(folder / "run.yaml"), "--resume"]) == 0
    assert _steps(folder) == steps
    shutil.rmtree(folder / "out")
    assert run(["run", str(folder / "run.yaml")]) == 0
    assert _steps(folder) == steps


def test_a_dry_run_says_that_the_model_decides(folder: Path, capsys: Any) -> None:
    assert run(["run", str(folder / "run.yaml"), "--dry-run"]) == 0
    assert "order clustered" in capsys.readouterr().out
    assert not (folder / "out").exists()


def test_an_unknown_order_and_a_comparison_in_clustered_order_are_refused(folder: Path) -> None:
    data = yaml.safe_load((folder / "run.yaml").read_text())
    (folder / "run.yaml").write_text(yaml.safe_dump({**data, "order": "random"}))
    with pytest.raises(InputError, match="field 'order' must be file or clustered, got 'random'"):
        read_run_config(folder / "run.yaml")
    del data["method"], data["settings"]
    with pytest.raises(InputError, match="field 'order': the runs of a comparison share their batches"):
        compare_config({**data, "methods": {"memit": {}}}, folder)
