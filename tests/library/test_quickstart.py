"""The quickstart does what it says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart.py"


def test_the_quickstart_edits_measures_takes_back_and_leaves_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(QUICKSTART), str(tmp_path / "quickstart")])
    runpy.run_path(str(QUICKSTART), run_name="__main__")
    said = capsys.readouterr().out
    assert "scores: ES 100.0" in said
    assert "reverted; in force: 0 entries" in said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("  ")] == [
        "edit",
        "revert",
        "edit",
        "root",
    ]
    assert load_file(tmp_path / "quickstart" / "adapter" / "adapter_model.safetensors")
