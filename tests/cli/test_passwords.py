"""The password in a database URL is never printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqedit.cli.main import run

URL = "postgresql://someone:secret-word@nowhere.invalid/ledger"


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_a_dry_run_of_init_names_the_place_without_its_password(
    json_: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", "--model", "demo-llama", "--ledger", URL, "--objects", "objects", "--dry-run", *json_]) == 0
    said = capsys.readouterr()
    assert "nowhere.invalid" in said.out
    assert "secret-word" not in said.out + said.err


def test_a_dry_run_of_a_run_names_the_ledger_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.jsonl"
    facts.write_text(json.dumps({"subject": "Lyon", "prompt": "The twin city of {} is", "target_new": "Manila"}))
    config = tmp_path / "run.yaml"
    config.write_text(
        json.dumps({
            "model": "demo-llama", "facts": str(facts), "method": "memit", "preset": "demo-llama", "batch_size": 1,
            "steps": 1, "ledger": URL, "out": str(tmp_path / "out"), "tasks": [],
        })
    )  # fmt: skip
    assert run(["run", str(config), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "nowhere.invalid" in said.out
    assert "secret-word" not in said.out + said.err
