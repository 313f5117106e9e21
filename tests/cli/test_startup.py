"""The command line starts fast: what asks about history, and every slip, ends before anything heavy is imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.startup_commands import COMPARE_SLIPS, READING, RUN_SLIPS, SLIPS, all_slips, make_world
from seqedit.cli.app import app
from seqedit.cli.verbs import MODULES, PANELS, registered

ROOT = Path(__file__).parents[2]


def _runs(place: Path, commands: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    (place / "commands.json").write_text(json.dumps([list(command) for command in commands.values()]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.without_torch", "commands.json"], cwd=place, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEQEDIT_LEDGER": "ledger", "COLUMNS": "100",
             "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("startup")
    make_world(place)
    return place


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, dict[str, Any]]:
    return _runs(place, READING)


@pytest.fixture(scope="module")
def refused(place: Path) -> dict[str, dict[str, Any]]:
    return _runs(place, {name: arguments for name, (arguments, _) in all_slips(place).items()})


@pytest.mark.parametrize("verb", READING)
def test_what_asks_imports_nothing_heavy(verb: str, told: dict[str, dict[str, Any]]) -> None:
    found = told[verb]
    assert found["code"] == 0, found
    assert found["out"] or verb in ("signers", "tags", "configuration")  # of which there are none here
    assert found["heavy"] == []


ALL_SLIPS = {
    **{name: says for name, (_, says) in SLIPS.items()},
    **{f"run: its {name}": says for name, (_, says) in RUN_SLIPS.items()},
    **{f"compare: its {name}": says for name, (_, says) in COMPARE_SLIPS.items()},
}


@pytest.mark.parametrize("slip", ALL_SLIPS)
def test_a_slip_ends_in_one_line_before_anything_heavy_is_imported(
    slip: str, refused: dict[str, dict[str, Any]]
) -> None:
    found = refused[slip]
    assert found["heavy"] == [], found["err"]
    assert (found["code"], found["out"]) == (2, ""), found
    assert found["err"].count("\n") == 1, found["err"]
    assert found["err"].startswith("seqedit: ")
    assert ALL_SLIPS[slip] in found["err"]


def test_nothing_is_written_by_slips(refused: dict[str, dict[str, Any]], place: Path) -> None:
    assert refused
    assert not [name for name in ("o", "out", "new", "nowhere", "tuned") if (place / name).exists()]


def test_the_table_of_verbs_is_what_the_modules_register() -> None:
    folder = ROOT / "seqedit" / "cli"
    there = {
        f"{path.parent.name}.{path.stem}"
        for path in folder.glob("*/*.py")
        if re.search(r"^@app\.command", path.read_text("utf-8"), re.MULTILINE)
    }
    assert set(MODULES.values()) == there
    from typer.main import get_command

    verbs = dict(get_command(app).commands)  # type: ignore[attr-defined]
    assert list(verbs) == list(MODULES)
    assert sorted(registered()) == sorted(MODULES)


def test_a_verb_imports_the_modules_of_no_other_verb() -> None:
    code = (
        "import sys\nfrom seqedit.cli.main import run\nrun(['tasks'])\n"
        "print(sorted(n for n in sys.modules if n.startswith('seqedit.cli.') and n.count('.') > 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines()[-1] == "['seqedit.cli.measuring.tasks']", done.stderr


def test_the_help_lists_the_verbs_by_what_they_are_for_in_whole_sentences(told: dict[str, dict[str, Any]]) -> None:
    text = told["help"]["out"]
    assert "..." not in text.partition("History:")[2]
    places = [text.index(f"\n{panel}:\n") for panel in PANELS]
    assert places == sorted(places)
    words = " ".join(text.split())
    assert "Find the layers that carry facts by causal tracing (ROME, section 2), and suggest which to edit." in words
    for verb in MODULES:
        assert re.search(rf"^  {re.escape(verb)} ", text, re.MULTILINE), verb
