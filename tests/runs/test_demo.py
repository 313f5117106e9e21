"""The demonstration on the shipped models keeps its promises."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from seqedit import demo
from seqedit.cli.main import run
from seqedit.demo.location import demo_file
from seqedit.facts.loading import load_records
from seqedit.models.loading import load_model
from seqedit.runs.demo import distinct_records

MODELS = [
    pytest.param(
        f"demo-{style}",
        marks=pytest.mark.skipif(
            not demo.model_path(style).is_dir(), reason=f"the {style} model is not shipped yet (docs/guide/demo.md)"
        ),
    )
    for style in ("gpt2", "llama")
]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo's files and second moments in a cache of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQEDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("model", MODELS)
def test_the_first_batch_of_16_edits_succeeds_generalises_and_spares_neighbours(
    model: str, tmp_path: Path, capsys: Any
) -> None:
    assert run(["demo", "--model", model, "--steps", "1", "--out", str(tmp_path / "demo"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert set(summary["runs"]) == {"emmet", "memit"}
    for name, found in summary["runs"].items():
        (step,) = found["steps"]
        assert step["requests"] == 16
        assert step["ES"] >= 95, name
        assert step["PS"] >= 80, name
        assert step["NS"] >= 90, name
        assert set(step["tasks"]) == {"cola", "sst2", "mrpc", "rte"}
    assert summary["steps"] == summary["runs"]["emmet"]["steps"]
    assert (tmp_path / "demo" / "report.html").is_file()
    ledger = str(tmp_path / "demo" / "ledger")
    for branch in ("emmet", "memit"):
        assert run(["log", branch, "--ledger", ledger, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 2
    assert run(["verify", "--ledger", ledger]) == 0


@pytest.mark.parametrize("model", MODELS)
def test_an_adapter_from_the_command_line_loads_in_stock_peft(model: str, tmp_path: Path) -> None:
    arguments = ["--model", model, "--preset", model, "--requests", str(demo_file("counterfact.json")), "--limit", "2"]
    assert run(["edit", *arguments, "--method", "memit", "--out", str(tmp_path / "adapter")]) == 0
    loaded, tokenizer = load_model(model)
    from seqedit.adapters.adapter import Adapter
    from seqedit.editing.compute import apply_adapter

    dense = copy.deepcopy(loaded)
    apply_adapter(dense, Adapter.from_pretrained(tmp_path / "adapter"))
    stock = PeftModel.from_pretrained(loaded, str(tmp_path / "adapter"))
    prompt = load_records(demo_file("counterfact.json"), limit=1)[0].request.text
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(stock(input_ids=ids).logits, dense(input_ids=ids).logits, rtol=1e-5, atol=2e-5)


def test_the_demos_facts_are_no_neighbours_of_each_other() -> None:
    records = distinct_records(load_records(demo_file("counterfact.json")), 160)
    for record in records:
        for other in records:
            if record.request.relation == other.request.relation:
                near = [n.prompt for n in other.neighborhood_prompts]
                assert not any(record.request.subject in prompt for prompt in near)


def test_more_steps_than_the_world_has_facts_for_are_refused(tmp_path: Path, capsys: Any) -> None:
    assert run(["demo", "--steps", "500", "--out", str(tmp_path / "demo")]) == 2
    assert "are needed" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_the_demo_refuses_a_model_of_another_world(tmp_path: Path, capsys: Any) -> None:
    assert run(["demo", "--model", "gpt2", "--out", str(tmp_path / "demo")]) == 2
    assert "demo-gpt2 or demo-llama" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(("name", "count"), [("counterfact_2000.json", 1000), ("zsre_500.json", 200)])
def test_real_records_are_scored_on_the_demo_model_without_error(
    name: str, count: int, shared_data: Path, capsys: Any
) -> None:
    arguments = ["--records", str(shared_data / name), "--limit", str(count), "--json"]
    assert run(["score", "--model", "demo-gpt2", *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)["records"]) == count
