"""An edit that cannot have taken says so before it is written, and names the setting at fault and what to try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from seqedit.adapters.adapter import Adapter
from seqedit.cli.main import run
from seqedit.demo.location import demo_file
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps(json.loads(demo_file("counterfact.json").read_text())[::90][:4]))
    return file


def edit(facts: Path, out: Path, *more: str) -> int:
    return run([
        "edit", "--model", "demo-llama", "--requests", str(facts), "--method", "memit", "--preset", "demo-llama",
        "--out", str(out), *more,
    ])  # fmt: skip


def diagnosis(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = Adapter.from_pretrained(out).provenance["diagnosis"]
    return found


def test_a_sound_edit_has_no_fault_and_its_numbers_are_those_of_the_adapter(facts: Path, tmp_path: Path) -> None:
    assert edit(facts, tmp_path / "out", "--strict") == 0
    found, adapter = diagnosis(tmp_path / "out"), Adapter.from_pretrained(tmp_path / "out")
    assert found["faults"] == []
    assert (found["requests"], found["converged"]) == (4, 4)
    name, delta = next(iter(adapter.deltas.items()))
    assert found["load"][name] == pytest.approx(4 / delta.shape[1], rel=1e-5)
    # What is written of r = z - h at a key is <Delta k, r> / <r, r>; between 0 and 1 where C0 alone holds it back.
    assert 0.75 < found["written"][name] <= 1
    assert found["condition"][name] >= 1
    weight = EditedModel(*load_model("demo-llama")).base_weights([name])[name]
    assert found["size"][name] == pytest.approx(float(delta.dense().norm() / weight.norm()), rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "value"), [("learning_rate", "0.001"), ("second_moment_weight", "1e6"), ("clamp_norm_factor", "0.1")]
)
def test_the_setting_at_fault_is_named_and_the_proposed_value_mends_it(
    setting: str, value: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edit(facts, tmp_path / "out", "--set", f"{setting}={value}", "--json") == 0
    said = capsys.readouterr()
    faults = json.loads(said.out)["diagnosis"]["faults"]
    assert [fault["setting"] for fault in faults] == [setting]
    assert f"try --set {setting}=" in said.err
    if setting == "clamp_norm_factor":  # a bound is doubled: a step in the right direction
        assert faults[0]["proposed"] == 0.2
        return
    assert edit(facts, tmp_path / "again", "--set", f"{setting}={faults[0]['proposed']}", "--strict") == 0
    assert diagnosis(tmp_path / "again")["faults"] == []


def test_strict_writes_nothing_where_the_edit_cannot_have_taken(
    facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edit(facts, tmp_path / "out", "--set", "second_moment_weight=1e6", "--strict") == 1
    assert not (tmp_path / "out").exists()
    place = tmp_path / "ledger"
    assert run(["init", "--model", "demo-llama", "--ledger", str(place)]) == 0
    arguments = [
        "edit", "--ledger", str(place), "--requests", str(facts), "--method", "memit", "--preset", "demo-llama",
        "--set", "second_moment_weight=1e6",
    ]  # fmt: skip
    capsys.readouterr()
    assert run([*arguments, "--strict"]) == 1
    assert "second_moment_weight" in capsys.readouterr().err
    with Ledger.open(place) as ledger:
        assert len(ledger.log()) == 1
    assert run(arguments) == 0
    with Ledger.open(place) as ledger:
        assert len(ledger.log()) == 2
        assert [f["setting"] for f in ledger.scores("HEAD", "diagnosis")["diagnosis"]["faults"]] == [
            "second_moment_weight"
        ]


def test_load_counts_the_edits_that_are_in_force(facts: Path, tmp_path: Path) -> None:
    place = tmp_path / "ledger"
    assert run(["init", "--model", "demo-llama", "--ledger", str(place)]) == 0
    arguments = ["--ledger", str(place), "--requests", str(facts), "--method", "memit", "--preset", "demo-llama"]
    for limit in ("2", "1"):  # the second batch supersedes one of the first
        assert run(["edit", *arguments, "--limit", limit]) == 0
    with Ledger.open(place) as ledger:
        loads = [ledger.scores(rev, "diagnosis")["diagnosis"]["load"] for rev in ("HEAD~1", "HEAD")]
        width = next(iter(ledger.adapter("HEAD").deltas.values())).shape[1]
    assert [next(iter(load.values())) for load in loads] == pytest.approx([2 / width, 3 / width], rel=1e-5)


@pytest.mark.parametrize(
    ("method", "setting"), [("alphaedit", "l2"), ("evoedit", "l2"), ("memit", "second_moment_weight"), ("rome", None)]
)
def test_a_share_that_is_not_written_is_put_down_to_the_setting_it_goes_by(
    method: str, setting: str | None, facts: Path, tmp_path: Path
) -> None:
    made = [
        "edit", "--model", "demo-llama", "--requests", str(facts), "--method", method, "--preset", "demo-llama",
    ]  # fmt: skip
    raised = setting or "second_moment_weight"
    assert run([*made, "--set", f"{raised}=1e7", "--out", str(tmp_path / "out")]) == 0
    faults = diagnosis(tmp_path / "out")["faults"]
    assert [fault["setting"] for fault in faults] == ([] if setting is None else [setting])
    if setting is not None:
        mended = f"{setting}={faults[0]['proposed']}"
        assert run([*made, "--set", mended, "--out", str(tmp_path / "again")]) == 0
        before, after = diagnosis(tmp_path / "out")["written"], diagnosis(tmp_path / "again")["written"]
        assert all(after[name] > before[name] + 0.3 for name in before)
