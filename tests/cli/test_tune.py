"""``seqedit tune`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run


def test_tune_writes_a_preset_and_prints_its_evidence(
    tmp_path: Path, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    model, tokenizer = llama
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    names = ("Venxa", "Bado", "Bribri", "Olm", "Sidi", "Marla", "Ruo", "Ina")
    rows = [{"subject": name, "prompt": "{} plays the sport of", "target_new": "golf"} for name in names]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "text.txt").write_text("The sport of golf and the sport of rowing are known to all of them.\n" * 60)
    arguments = [
        "tune", "--model", str(tmp_path / "tiny"), "--records", str(tmp_path / "facts.jsonl"), "--text",
        str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), "--layers", "1", "--steps", "2", "--max-tokens",
        "1000", "--json", "--method",
    ]  # fmt: skip
    assert run([*arguments, "emmet"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert Path(shown["preset"]) == tmp_path / "out" / "preset.yaml"
    assert shown["settings"]["layers"][-1] == 1
    assert shown["best"]["stage"] == "sequence"
    assert run([*arguments, "ft"]) == 2
    assert "method 'ft' cannot be tuned: the search solves many settings" in capsys.readouterr().err
