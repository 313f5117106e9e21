"""`seqedit config`: options set once for a ledger, and the verbs that take them where nothing else is given."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger import Ledger
from seqedit.adapters.base import BaseModel
from seqedit.cli.main import run
from seqedit.runs.config import read_run_config
from tests.conftest import REFERENCE
from tests.runs.test_run import folder  # noqa: F401

MODEL = str(REFERENCE / "model")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: Any) -> Path:
    """An empty ledger of no model that is there, in the current directory."""
    monkeypatch.delenv("SEQEDIT_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    Ledger.create(tmp_path / "ledger", BaseModel("nowhere", "f" * 64)).close()
    return tmp_path


def test_an_option_is_set_shown_listed_and_taken_out(place: Path, capsys: Any) -> None:
    assert run(["config"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["config", "method", "emmet"]) == 0
    assert run(["config", "set", "gates", "earlier.ES: min 90", "converged: min 0.5"]) == 0
    assert run(["config", "gate", "ES: min 50", "--add"]) == 0
    capsys.readouterr()
    assert run(["config", "get", "method"]) == 0
    assert capsys.readouterr().out == "emmet\n"
    assert run(["config"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["gates=earlier.ES: min 90", "gates=converged: min 0.5", "gates=ES: min 50", "method=emmet"]
    assert run(["config", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "gates": ["earlier.ES: min 90", "converged: min 0.5", "ES: min 50"], "method": "emmet",
    }  # fmt: skip
    assert run(["config", "--unset", "gates"]) == 0
    assert run(["config", "unset", "method"]) == 0
    capsys.readouterr()
    assert run(["config", "method"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "'method' is not set" in captured.err


def test_a_dry_run_checks_the_value_and_keeps_nothing(place: Path, capsys: Any) -> None:
    assert run(["config", "layers", "1, 2", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "key": "layers",
        "value": "1,2",
        "before": None,
        "done": False,
        "dry_run": True,
    }
    assert run(["config", "layers"]) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["methd", "emmet"], "unknown key 'methd'; did you mean 'method'?"),
        (["method", "memmit"], "method: unknown method 'memmit'; did you mean 'memit'?"),
        (["preset", "gpt2-xll"], "did you mean 'gpt2-xl'?"),
        (["preset", "none.yaml"], "preset: no such file: none.yaml"),
        (["layers", "one"], "must be a list of integers"),
        (["spread", "evn"], "did you mean 'even'?"),
        (["gates", "ES rises"], "ES rises"),
        (["tasks", "cola=none.jsonl"], "tasks: no such file: none.jsonl"),
        (["records", "none.jsonl"], "records: no such file: none.jsonl"),
        (["second-moments", "none.safetensors"], "no such file"),
        (["model", "./none"], "no model directory at ./none"),
        (["model", "demo-lama"], "did you mean 'demo-llama'?"),
        (["dtype", "float8"], "known: auto, float32"),
        (["seed", "-1"], "must not be negative"),
        (["signers", "none.txt"], "signers file none.txt cannot be read"),
        (["method", "emmet", "memit"], "'method' takes one value"),
        (["method", "emmet", "--add"], "'method' takes one value"),
        (["--unset"], "a key is needed"),
        (["set", "method"], "config set method needs a value"),
    ],
)
def test_a_key_or_value_that_does_not_fit_is_refused_when_it_is_set(
    arguments: list[str], named: str, place: Path, capsys: Any
) -> None:
    assert (
        run(["config", *arguments[:1], "--", *arguments[1:]] if arguments[0] == "seed" else ["config", *arguments]) == 2
    )
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.splitlines()) == 1
    with Ledger.open(place / "ledger") as opened:
        assert opened.defaults() == {}


def test_a_path_means_the_same_from_every_folder(place: Path, capsys: Any, monkeypatch: Any) -> None:
    (place / "facts.jsonl").write_text("{}")
    assert run(["config", "records", "facts.jsonl"]) == 0
    assert run(["config", "tasks", "cola=facts.jsonl", "sst2"]) == 0
    with Ledger.open(place / "ledger") as opened:
        kept = opened.defaults()
    assert kept == {"records": str(place / "facts.jsonl"), "tasks": [f"cola={place / 'facts.jsonl'}", "sst2"]}


def test_signers_are_those_that_the_ledger_keeps_already(place: Path, capsys: Any) -> None:
    (place / "signers").write_text("a" * 64 + " ann\n")
    assert run(["config", "signers", "signers"]) == 0
    with Ledger.open(place / "ledger") as opened:
        assert opened.kept_signers() == {"a" * 64: "ann"}
        assert opened.defaults() == {}
    capsys.readouterr()
    assert run(["config", "signers"]) == 0
    assert capsys.readouterr().out == "a" * 64 + "\n"
    assert run(["config", "--unset", "signers"]) == 0
    with Ledger.open(place / "ledger") as opened:
        assert opened.kept_signers() is None


def test_of_many_writers_at_once_every_one_has_its_say(place: Path) -> None:
    def write(number: int) -> None:
        with Ledger.open(place / "ledger") as opened:
            opened.set_defaults({f"key{number}": str(number)}, {"gates": [f"gate {number}"]})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(16)))
    with Ledger.open(place / "ledger") as opened:
        kept = opened.defaults()
    assert {kept.pop(f"key{number}") for number in range(16)} == {str(number) for number in range(16)}
    assert sorted(kept["gates"]) == sorted(f"gate {number}" for number in range(16))


def test_verify_and_gc_leave_what_is_set_alone_and_bundles_do_not_carry_it(place: Path, capsys: Any) -> None:
    assert run(["config", "author", "ann"]) == 0
    assert run(["verify"]) == 0
    assert run(["gc", "--prune-now", "--grace", "0"]) == 0
    assert run(["export", "--format", "bundle", "--out", "all.zip"]) == 0
    assert run(["import", "all.zip", "--ledger", "copy"]) == 0
    capsys.readouterr()
    assert run(["config", "author"]) == 0
    assert capsys.readouterr().out == "ann\n"
    assert run(["config", "--ledger", "copy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {}


def test_a_newer_versions_option_is_kept_and_not_taken(place: Path) -> None:
    from seqedit.defaults.filling import taken

    with Ledger.open(place / "ledger") as opened:
        opened.set_defaults({"colour": "red", "method": ["emmet"], "author": "ann"})
        kept = opened.defaults()
    assert kept["colour"] == "red"
    assert taken(kept, (), ("colour", "method", "author")) == {"author": "ann"}


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ((), {"preset": "rule", "layers": "1", "text": "t", "fewshot": ["a=b"]}),
        (("preset",), {"text": "t", "fewshot": ["a=b"]}),
        (("hparams",), {"text": "t", "fewshot": ["a=b"]}),
        (("layers",), {"preset": "rule", "text": "t", "fewshot": ["a=b"]}),
        (("second-moments", "tasks"), {"preset": "rule", "layers": "1"}),
    ],
)
def test_what_is_given_also_goes_before_kept_options_that_say_otherwise(given: Any, left: Any) -> None:
    from seqedit.defaults.filling import taken

    kept = {"preset": "rule", "layers": "1", "text": "t", "fewshot": ["a=b"]}
    assert taken(kept, given, (*kept, "hparams", "second-moments", "tasks")) == left


def test_listing_what_is_set_needs_no_torch(place: Path) -> None:
    import subprocess
    import sys

    root = str(Path(__file__).parents[2])  # the folder `ledger` of the working directory is no package
    code = (
        "import sys; from ledger.database.defaults import defaults_at; defaults_at('ledger'); "
        "from seqedit.defaults.filling import taken; taken({'method': 'emmet'}, (), ('method',)); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=place, check=False, env={**os.environ, "PYTHONPATH": root}
    )
    assert done.returncode == 0


def test_a_runs_file_takes_what_its_ledger_keeps_and_says_before_it(folder: Path, capsys: Any) -> None:  # noqa: F811
    data = yaml.safe_load((folder / "run.yaml").read_text())
    left = {name: data.pop(name) for name in ("method", "context_templates", "tasks")}
    (folder / "run.yaml").write_text(yaml.safe_dump({**data, "seed": 3}))
    (folder / "templates.json").write_text(json.dumps(left["context_templates"]))
    assert run(["run", str(folder / "run.yaml"), "--dry-run"]) == 2
    assert "field 'method' is missing" in capsys.readouterr().err
    (folder / "out").mkdir()
    place = str(folder / "out" / "ledger")
    assert run(["init", "--model", data["model"], "--ledger", place]) == 0
    options = {
        "method": "memit", "context-templates": str(folder / "templates.json"), "layers": "3", "seed": "5",
        "tasks": f"cola={folder / 'cola.jsonl'}", "gates": "ES: min 50", "on-gate": "revert", "author": "ann",
    }  # fmt: skip
    for name, value in options.items():
        assert run(["config", name, value, "--ledger", place]) == 0
    capsys.readouterr()
    assert run(["run", str(folder / "run.yaml"), "--dry-run", "--json"]) == 0
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert (plan["method"], plan["layers"], plan["tasks"]) == ("memit", [1, 2], ["cola"])
    assert set(plan["defaults"]) == {"method", "context-templates", "tasks", "gates", "on-gate"}
    assert "from the ledger's configuration: " in captured.err
    config = read_run_config(folder / "run.yaml")
    assert config.seed == 3
    assert config.context_templates == left["context_templates"]
    assert [gate.name for gate in config.gates] == ["ES: min 50"]
    assert config.on_gate.action == "revert"


def test_score_and_eval_take_what_the_ledger_keeps(place: Path, capsys: Any) -> None:
    records = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
    (place / "facts.json").write_text(json.dumps(records[:2]))
    assert run(["score"]) == 2
    assert "give --model, or set it once for a ledger with `seqedit config model ...`" in capsys.readouterr().err
    assert run(["config", "model", MODEL]) == 0
    assert run(["config", "records", "facts.json"]) == 0
    capsys.readouterr()
    assert run(["score", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["records"]) == 2
    assert found["defaults"] == {"model": MODEL, "records": str(place / "facts.json")}
    (place / "one.json").write_text(json.dumps(records[:1]))
    assert run(["score", "--json", "--records", "one.json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["records"]) == 1
    assert found["defaults"] == {"model": MODEL}
    assert run(["score", "--ledger", "none"]) == 2
    assert "no ledger at none" in capsys.readouterr().err
