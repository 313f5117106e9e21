"""What `pip install seqedit` is enough for: the libraries of extras are hidden from a Python of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HIDDEN = ("lm_eval", "matplotlib", "tensorboard", "wandb", "trackio", "psycopg", "cryptography")
PROGRAM = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def visible(name, *place, **more):
    return None if name.partition(".")[0] in HIDDEN else find(name, *place, **more)
PathFinder.find_spec = staticmethod(visible)
from seqedit import EnvironmentFailure, Request, Session
from seqedit.cli.main import run
ledger = str(OUT / "ledger")
with Session.from_pretrained("demo-gpt2", ledger=ledger) as session:
    facts = [Request("Ada", "{} lives in", "Rome", target_true="Paris")]
    entry = session.edit(facts, "memit", preset="demo-gpt2")
    assert session.evaluate().step["ES"] is not None
    for wanted in (lambda: session.evaluate(tasks=["cola"]), lambda: session.report(OUT / "report")):
        try:
            wanted()
        except EnvironmentFailure as error:
            print(error)
    session.export(OUT / "adapter")
    session.revert(entry)
assert run(["verify", "--ledger", ledger]) == 0
assert run(["log", "--ledger", ledger]) == 0
"""


def test_the_plain_install_edits_scores_reverts_exports_and_verifies(tmp_path: Path) -> None:
    program = f"from pathlib import Path\nHIDDEN, OUT = {HIDDEN!r}, Path({str(tmp_path)!r})\n{PROGRAM}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SEQEDIT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert 'evaluating tasks needs lm_eval, which is not installed; pip install "seqedit[lm-eval]"' in done.stdout
    assert 'the report needs matplotlib, which is not installed; pip install "seqedit[report]"' in done.stdout


def test_readme_and_make_install_what_using_it_needs_and_not_what_working_on_it_needs(tmp_path: Path) -> None:
    (line,) = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "    pip install" in line]
    found = re.search(r'--constraint (\S+) --editable "\.\[([\w,-]+)\]"', line)
    assert found is not None
    assert (ROOT / found[1]).is_file()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(found[2].split(",")) <= set(extras)
    if shutil.which("make") is None:
        pytest.skip("needs make")
    for target, installed in (("demo", found[2]), ("test", "dev,docs")):
        said = subprocess.run(
            ["make", "--dry-run", f"VENV={tmp_path / 'venv'}", target], cwd=ROOT, capture_output=True, text=True
        )
        assert said.returncode == 0, said.stderr
        assert re.findall(r'--editable "\.\[([\w,-]+)\]"', said.stdout) == [installed]
