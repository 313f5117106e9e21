"""What a shell offers: branches, entries, methods, presets and metrics, without a model."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from ledger import Ledger
from seqedit.cli.app import app
from seqedit.editing.settings import preset_names
from seqedit.methods import method_names
from tests.conftest import DATA

ROOT = Path(__file__).parents[2]
COMMAND: Any = typer.main.get_command(app)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = Path(shutil.copytree(DATA / "ledgers" / "format-1-schema-3", tmp_path / "ledger"))
    monkeypatch.setenv("SEQEDIT_LEDGER", str(place))
    return place


def offered(arguments: Sequence[str], incomplete: str = "") -> list[str]:
    """What the completion of click gives, be it typer's own click."""
    core = next(kind.__module__ for kind in type(COMMAND).__mro__ if kind.__name__ == "Command")
    shell = importlib.import_module(f"{core.rpartition('.')[0]}.shell_completion")
    # What a shell's own class adds is how it asks and how it is answered.
    own = dict.fromkeys(("source_vars", "get_completion_args", "format_completion"), lambda *_: None)
    completion = type("Shell", (shell.ShellComplete,), own)(COMMAND, {}, "seqedit", "_SEQEDIT_COMPLETE")
    return [item.value for item in completion.get_completions(list(arguments), incomplete)]


def test_verbs_are_offered() -> None:
    assert offered([], "re") == ["revert", "rebase", "reorder", "reset", "reflog", "report"]


@pytest.mark.parametrize(
    "arguments", [["log"], ["diff"], ["diff", "main"], ["revert"], ["merge"], ["export"], ["report"]]
)
def test_a_revision_is_head_a_branch_or_an_entry(arguments: list[str], place: Path) -> None:
    with Ledger.open(place) as ledger:
        entries = [entry.id[:12] for entry in ledger.log()]
    assert offered(arguments) == ["HEAD", "main", "other", *entries]
    assert offered(arguments, entries[1][:4]) == [entries[1]]


@pytest.mark.parametrize("arguments", [["checkout"], ["undo"], ["reflog"], ["reset", "HEAD", "--branch"]])
def test_a_branch_is_one_of_the_ledger(arguments: list[str], place: Path) -> None:
    assert offered(arguments) == ["main", "other"]
    assert offered(arguments, "o") == ["other"]


def test_the_ledger_that_is_named_before_is_asked(place: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(place, tmp_path / "second"))
    with Ledger.open(other) as ledger:
        ledger.start_branch("only-here")
    assert offered(["checkout", "--ledger", str(other)], "only") == ["only-here"]
    assert offered(["checkout"], "only") == []


def test_methods_and_presets_are_those_there_are() -> None:
    assert offered(["edit", "--method"]) == method_names()
    assert offered(["tune", "--method"]) == ["alphaedit", "emmet", "evoedit", "memit", "pmet", "rome"]
    assert offered(["edit", "--preset"]) == [*preset_names(), "rule"]
    assert offered(["edit", "--model"], "demo") == ["demo-gpt2", "demo-llama"]
    assert "shrinkage=" in offered(["edit", "--method", "emmet", "--set"], "shr")


def test_metrics_are_scores_and_those_of_tasks() -> None:
    found = offered(["bisect"])
    assert {"ES", "S", "ppl"} <= set(found)
    assert any(name.startswith("counterfact_") for name in found)
    assert "earlier.ES" in offered(["eval", "--gate"], "earlier.")
    assert "locality_kept" in offered(["eval", "--gate"], "local")


def test_metrics_of_tasks_that_the_ledger_knows_are_offered(place: Path) -> None:
    with Ledger.open(place) as ledger:
        ledger.add_scores(ledger.head(), "tasks", {"cola": {"mcc": 0.5, "change": 0.1}})
    assert [name for name in offered(["bisect"]) if name.startswith("cola")] == ["cola.mcc"]


def test_without_a_ledger_nothing_is_offered_and_nothing_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQEDIT_LEDGER", str(tmp_path / "nowhere"))
    assert offered(["log"]) == []
    assert capsys.readouterr() == ("", "")


def test_a_shell_is_answered_without_torch(place: Path) -> None:
    code = (
        "import sys, atexit\natexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "from seqedit.cli.main import main\nmain([])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "_SEQEDIT_COMPLETE": "complete_bash",
             "COMP_WORDS": "seqedit checkout o", "COMP_CWORD": "2"},
    )  # fmt: skip
    assert done.stdout.split() == ["other"], done.stderr
    assert done.stderr.strip() == "False"
