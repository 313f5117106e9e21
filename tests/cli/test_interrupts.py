"""Ctrl-C: exit code 130, one line on what is kept, and the very command that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqedit.cli.interrupts import told
from seqedit.cli.main import run
from seqedit.editing.loading import Loading
from seqedit.errors import Interrupted
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")
FACT = {"subject": "Rome", "prompt": "{} is the capital of", "target_new": "France"}


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facts.jsonl").write_text(json.dumps(FACT))
    run_file = {
        "model": MODEL, "facts": "facts.jsonl", "batch_size": 1, "out": "out",
        "settings": {"layers": [1]}, "evals": {"generation": False},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**run_file, "method": "ft"}))
    methods = {"ft": {"settings": {"layers": [1]}}}
    (tmp_path / "compare.yaml").write_text(
        yaml.safe_dump({**{k: v for k, v in run_file.items() if k != "settings"}, "methods": methods})
    )
    return tmp_path


@pytest.mark.parametrize(
    ("patched", "arguments", "kept", "more"),
    [
        ("seqedit.runs.preparation._loaded", ["run", "run.yaml"], "nothing was recorded", ""),
        ("seqedit.runs.runner.measure_baseline", ["run", "run.yaml", "--json"], "no step was recorded", " --resume"),
        ("seqedit.runs.runner.measure_baseline", ["run", "run.yaml", "--resume"], "no step was recorded", ""),
        ("seqedit.comparing.compare.compare", ["compare", "compare.yaml"], "no row was finished", " --resume"),
        ("seqedit.tuning.tune.tune", ["tune", "--model", "m", "--records", "facts.jsonl", "--out", "my trials"],
         "finished trials are kept in my trials", ""),
        ("seqedit.comparing.case_sets.run_real_life",
         ["benchmark", "real-life", "--model", MODEL, "--records", "facts.jsonl"], "nothing is kept", ""),
    ],
    ids=["a run's checks", "a run's baseline", "a resumed run", "compare", "tune", "benchmark"],
)  # fmt: skip
def test_an_interrupt_says_what_is_kept_and_the_command_that_goes_on(
    patched: str, arguments: list[str], kept: str, more: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if arguments[0] == "tune":
        monkeypatch.setattr(Loading, "load", lambda self: None)
        monkeypatch.setattr("seqedit.tuning.tunable.check_search", lambda *given: None)
    monkeypatch.setattr(patched, interrupted)
    assert run(arguments) == 130
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert kept in said
    shown = " ".join(arguments).replace("my trials", "'my trials'")
    assert said.endswith(f"go on with: seqedit {shown}{more}\n")


def test_where_there_is_nothing_to_go_on_with_no_command_is_shown() -> None:
    assert told(Interrupted("interrupted; all is recorded", None), ["edit"]) == "interrupted; all is recorded"
