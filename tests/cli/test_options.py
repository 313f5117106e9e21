"""What several verbs share is called, explained and resolved alike by all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

import seqedit.cli.main  # noqa: F401  (adds the verbs)
from ledger import Ledger
from seqedit.adapters.adapter import BaseModel
from seqedit.cli.app import app
from seqedit.cli.main import run

COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _options(verb: str) -> dict[str, Any]:
    return {name: option for option in COMMANDS[verb].params for name in option.opts if name.startswith("--")}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_can_print_json(verb: str) -> None:
    assert _options(verb)["--json"].help == "Print JSON."


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_verb_that_loads_a_model_takes_its_type_and_its_device(verb: str) -> None:
    options = _options(verb)
    assert ("--dtype" in options) == ("--device" in options)


@pytest.mark.parametrize("name", ["--ledger", "--dry-run", "--dtype", "--device", "--author", "--preset", "--hparams"])
def test_an_option_of_one_name_is_one_option(name: str) -> None:
    found = [_options(verb)[name] for verb in COMMANDS if name in _options(verb)]
    assert len(found) > 1
    assert len({(option.help, option.envvar, option.opts[0]) for option in found}) == 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "ledger"
    Ledger.create(place, BaseModel("demo-llama", "f" * 64)).close()
    (tmp_path / "facts.jsonl").write_text('{"subject": "A", "prompt": "{} is", "target_new": "b"}\n')
    return place


def _edit(tmp_path: Path, *more: str) -> int:
    return run(["edit", "--requests", str(tmp_path / "facts.jsonl"), "--method", "ft", *more])


def test_edit_finds_its_ledger_as_every_verb_does(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # ./ledger
    assert _edit(tmp_path, "--layers", "0", "--dry-run", "--json") == 0
    assert '"branch": "main"' in capsys.readouterr().out
    place.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("SEQEDIT_LEDGER", str(tmp_path / "elsewhere"))
    assert _edit(tmp_path, "--layers", "0", "--dry-run", "--json") == 0
    assert '"branch": "main"' in capsys.readouterr().out
    monkeypatch.delenv("SEQEDIT_LEDGER")
    assert _edit(tmp_path, "--layers", "0", "--dry-run") == 2
    assert "either --out" in capsys.readouterr().err
    monkeypatch.setenv("SEQEDIT_LEDGER", str(tmp_path / "elsewhere"))
    # --out asks for an adapter alone, whatever ledger the environment names; naming both is a contradiction.
    out = ("--model", "demo-llama", "--out", str(tmp_path / "out"), "--layers", "0", "--dry-run", "--json")
    assert _edit(tmp_path, *out) == 0
    assert '"out"' in capsys.readouterr().out
    assert _edit(tmp_path, *out, "--ledger", str(tmp_path / "elsewhere")) == 2
    assert "either --out" in capsys.readouterr().err
