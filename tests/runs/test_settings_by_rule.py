"""Settings that nobody gave are settled for the model wherever a method is chosen: runs, comparisons, swaps, merges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger import Ledger
from seqedit import InputError
from seqedit.cli.main import run
from seqedit.editing import rule
from seqedit.editing.loading import Loading
from seqedit.editing.one_batch import open_editor
from seqedit.editing.rule import Recorded, settle
from seqedit.editing.settings import given_settings, method_config
from seqedit.methods import get_method
from seqedit.runs.config import read_run_config
from seqedit.runs.runner import run as run_batches
from seqedit.runs.settling import settings_of
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")
TEXT = "\n".join(" ".join(f"Number {i * j % 83} plays golf in town {j}." for j in range(1, 9)) for i in range(1, 200))
GIVEN = {"steps": 4, "shrinkage": 0.1}
RULED = {"layers", "learning_rate", "second_moment_weight", "clamp_norm_factor"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    records = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
    (tmp_path / "facts.json").write_text(json.dumps(records))
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "templates.json").write_text('[["{}"]]')
    return tmp_path


def config(place: Path, name: str = "run.yaml", **fields: Any) -> str:
    data = {
        "model": MODEL, "facts": "facts.json", "method": "memit", "settings": GIVEN, "batch_size": 2, "steps": 2,
        "second_moments": {"text": "text.txt", "max_tokens": 2000}, "context_templates": [["{}"]], "out": "out",
        "evals": {"generation": False, "drift": False, "resamples": 50}, **fields,
    }  # fmt: skip
    (place / name).write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}))
    return str(place / name)


def adapters(place: str | Path, branch: str = "HEAD") -> list[Any]:
    with Ledger.open(place) as ledger:
        return [ledger.adapter(entry) for entry in ledger.log(branch)[::-1] if entry.adapter is not None]


def edit_two_batches(place: Path) -> None:
    common = ["--method", "memit", "--set", "steps=4", "--set", "shrinkage=0.1", "--context-templates"]
    for start in (0, 2):
        rows = json.loads((place / "facts.json").read_text())[start : start + 2]
        (place / "some.json").write_text(json.dumps(rows))
        more = ["templates.json", "--ledger", "ledger", "--text", "text.txt"]
        assert run(["edit", "--requests", "some.json", *common, *more]) == 0


def never(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("the rule measured the model once more")


def test_a_run_without_a_preset_is_by_rule_which_is_said_and_recorded_with_every_entry(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config(place)
    assert run(["run", file, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["by_rule"] == ["learning_rate", "second_moment_weight", "clamp_norm_factor"]
    assert plan["settings"]["learning_rate"] is None
    assert plan["layers"] == [0, 1]
    assert run(["run", file, "--dry-run"]) == 0
    assert "layers, learning_rate, second_moment_weight, clamp_norm_factor: by rule" in capsys.readouterr().out
    assert not (place / "out").exists()
    assert run(["run", file, "--json"]) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "by rule" in line]
    first, second = adapters("out/ledger")
    ruled = first.provenance["by_rule"]
    assert set(ruled) == RULED
    assert second.provenance["by_rule"] == ruled
    assert {name: first.method[name] for name in ruled} == ruled == {name: second.method[name] for name in ruled}
    assert said.startswith(f"no preset knows this model: learning_rate {ruled['learning_rate']:g}, ")
    alone = settle(given_settings("memit", settings=GIVEN), open_editor(Loading(MODEL, text="text.txt")))
    assert set(alone.by_rule) == RULED  # the same rule as edit's, on other text
    # Resumed, the run goes on as it began, whatever would be measured now.
    monkeypatch.setattr(rule, "layer_figures", never)
    assert run(["run", config(place, steps=4), "--resume"]) == 0
    whole = adapters("out/ledger")
    assert [adapter.provenance["by_rule"] for adapter in whole] == [ruled] * 4
    assert all(dict(adapter.method) == dict(first.method) for adapter in whole)


def test_a_run_that_began_with_the_method_s_defaults_goes_on_with_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = get_method("memit").config()
    spelt = {"learning_rate": default.to_dict()["learning_rate"], "second_moment_weight": 15000.0, "layers": [1]}
    assert run(["run", config(place, settings={**GIVEN, **spelt}, steps=1)]) == 0
    monkeypatch.setattr(rule, "layer_figures", never)
    assert run(["run", config(place, settings={**GIVEN, "layers": [1]}), "--resume"]) == 0
    first, second = adapters("out/ledger")
    assert dict(second.method) == dict(first.method)
    assert "by_rule" not in second.provenance


def test_what_is_given_of_a_resumed_run_counts_and_not_what_is_recorded(place: Path) -> None:
    assert run(["run", config(place, steps=1)]) == 0
    assert run(["run", config(place, settings={**GIVEN, "steps": 5}), "--resume"]) == 2
    recorded = Recorded({"name": "memit", **get_method("memit").config.from_dict({"layers": [2]}).to_dict()})
    editor = open_editor(Loading(MODEL, text="text.txt"))
    taken = settle(given_settings("memit", settings={"layers": [2]}), editor, [recorded])
    assert taken.config == get_method("memit").config.from_dict({"layers": [2]})
    assert taken.by_rule == {}
    other = settle(given_settings("memit", settings={"layers": [1], **GIVEN}), editor, [recorded])
    assert set(other.by_rule) == RULED - {"layers"}


def test_settings_of_a_preset_or_all_of_them_are_not_settled_again(place: Path) -> None:
    given = {**GIVEN, "layers": [1], "learning_rate": 0.2, "second_moment_weight": 30.0}
    assert settings_of(read_run_config(config(place, settings=given)).settings).layers == (1,)
    with_preset = read_run_config(config(place, preset="demo-llama", settings={}))
    assert with_preset.settings == method_config("memit", preset="demo-llama")
    with pytest.raises(TypeError, match="wait for the model"):
        settings_of(read_run_config(config(place)).settings)
    with pytest.raises(InputError, match="no layers to edit were given for method 'ft'"):
        read_run_config(config(place, method="ft", settings={}))


def test_a_run_on_a_model_that_a_preset_knows_has_that_preset(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config(place, model="demo-llama", facts="demo:counterfact.json", settings={}, second_moments=None, steps=1)
    assert run(["run", file, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["settings"] == method_config("memit", preset="demo-llama").to_dict()
    assert plan["by_rule"] == []
    assert plan["notes"] == ["settings of preset 'demo-llama', which knows this model"]


def test_a_retry_by_another_method_is_settled_too(place: Path) -> None:
    retry = {"action": "retry", "method": "emmet", "settings": GIVEN, "then": "continue"}
    gates = [{"metric": "NM", "min": 100}]
    file = config(place, gates=gates, on_gate=retry, steps=1)
    run_batches(read_run_config(file))
    with Ledger.open("out/ledger") as ledger:
        edits = [e for e in ledger.log()[::-1] if e.operation == "edit"]
        found = {str(e.method["name"]): ledger.adapter(e).provenance for e in edits}
    assert {name: set(provenance["by_rule"]) for name, provenance in found.items()} == {"memit": RULED, "emmet": RULED}


def test_a_comparison_settles_every_method_and_names_it(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {"memit": {"settings": GIVEN}, "strict": {"method": "emmet", "settings": {**GIVEN, "layers": [1]}}}
    file = config(place, methods=methods, method=None, settings=None, independent=True)
    assert run(["compare", file, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["strict"]["by_rule"][0] == "learning_rate"
    assert run(["compare", file]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "by rule" in line]
    assert [line.split(":")[0] for line in said] == ["memit", "strict"]
    row = json.loads((place / "out" / "strict" / "batches.jsonl").read_text().splitlines()[0])
    assert set(row["noted"]["by_rule"]) == RULED - {"layers"}
    monkeypatch.setattr(rule, "layer_figures", never)
    assert run(["compare", file, "--resume"]) == 0  # what is done is kept


def test_a_swap_keeps_the_entry_s_settings_and_another_method_is_settled_for_the_model(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = ["--ledger", "ledger", "--text", "text.txt"]
    assert run(["init", "--model", MODEL, "--ledger", "ledger"]) == 0
    common = [
        "--method",
        "memit",
        "--set",
        "steps=4",
        "--set",
        "shrinkage=0.1",
        "--context-templates",
        "templates.json",
    ]
    for start in (0, 2):
        rows = json.loads((place / "facts.json").read_text())[start : start + 2]
        (place / "some.json").write_text(json.dumps(rows))
        assert run(["edit", "--requests", "some.json", *common, *begun]) == 0
    ruled = adapters("ledger")[0].provenance["by_rule"]
    # The same method: all that is not given is the entry's own, and where that came from stays known.
    assert run(["swap", "HEAD", "--set", "steps=5", *begun]) == 0
    capsys.readouterr()
    last = adapters("ledger")[-1]
    assert (last.method["steps"], last.provenance["by_rule"]) == (5, ruled)
    # Another: the entry's layers, and the rest by rule.
    assert run(["swap", "HEAD", "--method", "emmet", "--set", "shrinkage=0.1", "--dry-run", "--json", *begun[:2]]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["by_rule"] == ["learning_rate", "second_moment_weight", "clamp_norm_factor"]
    assert (plan["settings"]["learning_rate"], plan["layers"]) == (None, ruled["layers"])
    assert run(["swap", "HEAD", "--method", "emmet", "--set", "shrinkage=0.1", *begun]) == 0
    assert "by rule" in capsys.readouterr().err
    last = adapters("ledger")[-1]
    assert set(last.provenance["by_rule"]) == RULED - {"layers"}
    assert last.method["layers"] == ruled["layers"]
    assert run(["swap", "HEAD", "--preset", "rule", "--set", "shrinkage=0.1", *begun]) == 0
    assert set(adapters("ledger")[-1].provenance["by_rule"]) == RULED
    # What follows a change is computed again with what it was computed with, and says so.
    with Ledger.open("ledger") as ledger:
        second = ledger.active()[0].id
    assert run(["revert", second, "--ledger", "ledger"]) == 0
    assert run(["rebase", *begun]) == 0
    assert set(adapters("ledger")[-1].provenance["by_rule"]) == RULED


def test_a_merge_by_solving_keeps_the_entries_settings_and_another_method_is_settled(place: Path) -> None:
    begun = ["--ledger", "ledger", "--text", "text.txt"]
    assert run(["init", "--model", MODEL, "--ledger", "ledger"]) == 0
    common = [
        "--method",
        "memit",
        "--set",
        "steps=4",
        "--set",
        "shrinkage=0.1",
        "--context-templates",
        "templates.json",
    ]
    for start in (0, 2):
        rows = json.loads((place / "facts.json").read_text())[start : start + 2]
        (place / "some.json").write_text(json.dumps(rows))
        assert run(["edit", "--requests", "some.json", *common, *begun]) == 0
    one = adapters("ledger")[0]
    assert run(["merge", "HEAD", "HEAD~1", "--how", "solve", *begun]) == 0
    merged = adapters("ledger")[-1]
    assert dict(merged.method["solved_by"]) == dict(one.method)
    assert merged.provenance["by_rule"] == one.provenance["by_rule"]
    assert run(["undo", "--ledger", "ledger"]) == 0
    arguments = ["merge", "HEAD", "HEAD~1", "--how", "solve", "--method", "emmet", "--set", "shrinkage=0.1"]
    assert run([*arguments, *begun]) == 0
    merged = adapters("ledger")[-1]
    assert merged.method["solved_by"]["name"] == "emmet"
    assert set(merged.provenance["by_rule"]) == RULED - {"layers"}


def test_a_benchmark_s_edits_are_settled_as_edit_s_are(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "some.json").write_text(json.dumps(json.loads((place / "facts.json").read_text())[:2]))
    arguments = ["benchmark", "real-life", "--model", MODEL, "--records", "some.json", "--method", "memit"]
    moments = ["--second-moments", str(REFERENCE / "second_moments.safetensors"), "--max-new-tokens", "2"]
    assert run([*arguments, *moments, "--set", "steps=2", "--set", "shrinkage=0.1", "--set", "layers=1", "--json"]) == 0
    assert "no preset knows this model: learning_rate" in capsys.readouterr().err
