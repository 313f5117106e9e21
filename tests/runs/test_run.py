"""A run end to end on the reference model: ledger, scores, resuming, exactness."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ledger import Ledger
from seqedit.cli.main import run
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.store import read_second_moments
from seqedit.runs.config import read_run_config
from seqedit.session.session import Session
from tests.conftest import REFERENCE

CASE = REFERENCE / "multi_layer_batch8" / "case.json"
COLA = [
    {"sentence": "Venxa Ulmigri plays golf.", "label": 1, "idx": 0},
    {"sentence": "Venxa plays Ulmigri of golf the.", "label": 0, "idx": 1},
    {"sentence": "The sport of Bado Holul is rowing.", "label": 1, "idx": 2},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's configuration and its files: eight facts in four batches of two."""
    records = json.loads(CASE.read_text())["records"]
    (tmp_path / "facts.json").write_text(json.dumps(records))
    (tmp_path / "cola.jsonl").write_text("\n".join(map(json.dumps, COLA)))
    configuration = {
        "model": str(REFERENCE / "model"),
        "facts": "facts.json",
        "method": "emmet",
        "batch_size": 2,
        "out": "out",
        "settings": {"layers": [1, 2], "steps": 20, "learning_rate": 0.5, "second_moment_weight": 50,
                     "clamp_norm_factor": 1.5, "weight_decay": 0.001},
        "second_moments": {"file": str(REFERENCE / "second_moments.safetensors")},
        "context_templates": [["{}"], ["It rained. {}"]],
        "tasks": {"cola": "cola.jsonl"},
        "evals": {"generation_tokens": 5, "resamples": 200},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(configuration))
    return tmp_path


def change(folder: Path, **fields: Any) -> Path:
    data = yaml.safe_load((folder / "run.yaml").read_text())
    (folder / "run.yaml").write_text(yaml.safe_dump({**data, **fields}))
    return folder / "run.yaml"


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_leaves_ledger_summary_report_and_plots(folder: Path, capsys: Any) -> None:
    assert run(["run", str(folder / "run.yaml")]) == 0
    table = capsys.readouterr().out.splitlines()
    steps = [line.split()[0] for line in table[1:] if re.match(r" {1,3}\d+ ", line)]  # the diagnosis stands further in
    assert steps == ["0", "1", "2", "3", "4"]
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert [step["step"] for step in summary["steps"]] == [1, 2, 3, 4]
    for t, step in enumerate(summary["steps"]):
        assert step["requests"] == 2
        assert {"ES", "PS", "NS", "S", "EM", "GE", "seconds", "entry"} <= set(step)
        assert {"mcc", "change", "ci_low", "ci_high"} <= set(step["tasks"]["cola"])
        row = summary["forgetting"][t]
        assert all((value is not None) == (i <= t) for i, value in enumerate(row))
    assert summary["steps"][0]["earlier"] is None
    assert [step["earlier"]["requests"] for step in summary["steps"][1:]] == [2, 4, 6]
    assert summary["baseline"]["counterfact"]["ES"] < 50
    assert summary["steps"][0]["ES"] == 100
    fact = summary["steps"][0]["facts"][0]
    assert fact["before"]
    assert fact["after"]
    page = (folder / "out" / "report.html").read_text()
    assert summary["steps"][0]["entry"][:8] in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert list((folder / "out").glob("*.png"))


def test_log_and_show_give_json_with_the_contracts_fields(folder: Path, capsys: Any) -> None:
    assert run(["run", str(folder / "run.yaml"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    ledger = str(folder / "out" / "ledger")
    assert run(["log", "--ledger", ledger, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows[:-1]] == [step["entry"] for step in summary["steps"]][::-1]
    for row in rows:
        assert set(row) == {
            "id", "parents", "operation", "adapter", "method", "requests", "active", "message", "time", "scores",
            "author", "reason", "origin", "refs",
        }  # fmt: skip
    assert rows[0]["scores"]["ES"] == summary["steps"][-1]["ES"]
    assert rows[0]["scores"]["tasks"]["cola"]["mcc"] == summary["steps"][-1]["tasks"]["cola"]["mcc"]
    assert run(["show", rows[1]["id"][:8], "--ledger", ledger, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["id"] == rows[1]["id"]
    assert len(shown["requests"]) == 2
    assert all(request["live"] for request in shown["requests"])


def test_reverting_the_last_entry_gives_bit_equal_weights_of_the_state_before(folder: Path, capsys: Any) -> None:
    assert run(["run", str(folder / "run.yaml")]) == 0
    edited = EditedModel(*load_model(str(REFERENCE / "model")))
    original = weights_of(edited.model)
    config = read_run_config(folder / "run.yaml")
    moments = read_second_moments(config.second_moments.file or "")
    with Ledger.open(config.ledger, edited.base_model) as ledger:
        session = Session(edited, ledger, moments, context_templates=config.context_templates)
        last = weights_of(edited.model)
        session.checkout("HEAD~1")
        before = weights_of(edited.model)
        session.checkout()
        assert same(weights_of(edited.model), last)
        assert not same(before, last)
    assert run(["revert", "HEAD", "--ledger", config.ledger]) == 0
    with Ledger.open(config.ledger, edited.base_model) as ledger:
        session = Session(edited, ledger, moments, context_templates=config.context_templates)
        assert same(weights_of(edited.model), before)
        first = ledger.log()[-2]
        session.revert(first.id)
        assert len(ledger.active()) == 2
        session.checkout(ledger.root())
        assert same(weights_of(edited.model), original)
    assert run(["verify", "--ledger", config.ledger]) == 0


def test_verify_fails_with_the_files_name_after_one_flipped_byte(folder: Path, capsys: Any) -> None:
    change(folder, steps=1)
    assert run(["run", str(folder / "run.yaml")]) == 0
    ledger = folder / "out" / "ledger"
    assert run(["verify", "--ledger", str(ledger)]) == 0
    (file,) = ledger.rglob("adapter_model.safetensors")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    capsys.readouterr()
    assert run(["verify", "--ledger", str(ledger)]) == 1
    assert "adapter_model.safetensors" in capsys.readouterr().out


def test_a_run_is_not_started_over_an_existing_one_without_resume(folder: Path, capsys: Any) -> None:
    change(folder, steps=1)
    assert run(["run", str(folder / "run.yaml")]) == 0
    assert run(["run", str(folder / "run.yaml")]) == 2
    assert "--resume" in capsys.readouterr().err


def test_resuming_a_finished_run_changes_nothing(folder: Path) -> None:
    change(folder, steps=2)
    assert run(["run", str(folder / "run.yaml")]) == 0
    first = json.loads((folder / "out" / "summary.json").read_text())
    assert run(["run", str(folder / "run.yaml"), "--resume"]) == 0
    assert json.loads((folder / "out" / "summary.json").read_text()) == first


def test_resuming_goes_on_to_more_steps_but_never_with_another_setting(folder: Path, capsys: Any) -> None:
    change(folder, steps=1)
    assert run(["run", str(folder / "run.yaml")]) == 0
    change(folder, steps=2)
    assert run(["run", str(folder / "run.yaml"), "--resume"]) == 0
    assert len(json.loads((folder / "out" / "summary.json").read_text())["steps"]) == 2
    settings = yaml.safe_load((folder / "run.yaml").read_text())["settings"]
    change(folder, settings={**settings, "learning_rate": 0.4})
    assert run(["run", str(folder / "run.yaml"), "--resume"]) == 2
    assert "another 'learning_rate' (0.5, now 0.4)" in capsys.readouterr().err


def test_a_killed_run_resumes_at_the_last_finished_step_and_ends_in_the_same_state(folder: Path) -> None:
    change(folder, out="whole")
    assert run(["run", str(folder / "run.yaml")]) == 0
    change(folder, out="killed")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-m", "seqedit", "run", str(folder / "run.yaml")],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in iter(process.stdout.readline, ""):  # killed in the middle of the second step, or of its scores
        if line.split()[0] == "1":
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    place = folder / "killed" / "ledger"
    assert run(["verify", "--ledger", str(place)]) == 0
    with Ledger.open(place) as ledger:
        assert 2 <= len(ledger.log()) < 5
    assert run(["run", str(folder / "run.yaml"), "--resume"]) == 0
    with Ledger.open(folder / "whole" / "ledger") as whole, Ledger.open(place) as resumed:
        assert [e.adapter for e in resumed.log()] == [e.adapter for e in whole.log()]
    first, second = (json.loads((folder / n / "summary.json").read_text()) for n in ("whole", "killed"))
    assert second["forgetting"] == first["forgetting"]
    for a, b in zip(first["steps"], second["steps"], strict=True):
        assert {k: a[k] for k in ("ES", "PS", "NS", "S", "GE")} == {k: b[k] for k in ("ES", "PS", "NS", "S", "GE")}
        assert a["tasks"] == b["tasks"]


def test_a_ledger_made_for_another_base_model_is_refused(folder: Path, capsys: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    change(folder, steps=1)
    assert run(["run", str(folder / "run.yaml")]) == 0
    model = AutoModelForCausalLM.from_pretrained(REFERENCE / "model")
    with torch.no_grad():
        model.transformer.wpe.weight[0, 0] += 1
    model.save_pretrained(folder / "other")
    AutoTokenizer.from_pretrained(REFERENCE / "model").save_pretrained(folder / "other")
    change(folder, model="other")
    capsys.readouterr()
    before = sorted(p for p in folder.rglob("*") if not p.name.endswith(("-wal", "-shm")))
    assert run(["run", str(folder / "run.yaml"), "--resume"]) == 2
    error = capsys.readouterr().err
    assert "belongs to base model" in error
    assert error.count("\n") == 1
    assert sorted(p for p in folder.rglob("*") if not p.name.endswith(("-wal", "-shm"))) == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"method": "memmit"}, "unknown method"), ({"steps": 9}, "holds 8 records, 9 steps of 2 need 18"),
     ({"settings": {"layers": [6]}}, "layer 6 is out of range"), ({"tasks": {"cola": "no.jsonl"}}, "no such file"),
     ({"facts": "no.json"}, "no such file")],
)  # fmt: skip
def test_bad_configurations_are_refused_with_nothing_written(
    fields: dict[str, Any], message: str, folder: Path, capsys: Any
) -> None:
    change(folder, **fields)
    assert run(["run", str(folder / "run.yaml")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "out").exists()


def test_commands_on_a_missing_ledger_say_so(tmp_path: Path, capsys: Any) -> None:
    for verb in ("log", "show", "verify"):
        assert run([verb, "--ledger", str(tmp_path / "none")]) == 2
        assert "none" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_revert_dry_run_says_what_would_happen_and_changes_nothing(folder: Path, capsys: Any) -> None:
    change(folder, steps=1)
    assert run(["run", str(folder / "run.yaml")]) == 0
    place = str(folder / "out" / "ledger")
    capsys.readouterr()
    assert run(["revert", "HEAD", "--dry-run", "--ledger", place]) == 0
    assert "->" in capsys.readouterr().out
    with Ledger.open(place) as ledger:
        assert len(ledger.log()) == 2
    assert run(["revert", "HEAD~1", "--ledger", place]) == 2  # the root


def test_report_can_be_made_again_from_the_ledger_alone(folder: Path, capsys: Any) -> None:
    change(folder, steps=2)
    assert run(["run", str(folder / "run.yaml")]) == 0
    place = str(folder / "out" / "ledger")
    assert run(["report", "--ledger", place, "--out", str(folder / "again")]) == 0
    assert (folder / "again" / "report.html").stat().st_size > 10_000
    summary = str(folder / "out" / "summary.json")
    assert run(["report", "--summary", summary, "--out", str(folder / "third")]) == 0
    assert run(["report", "--summary", str(folder / "none.json")]) == 2
