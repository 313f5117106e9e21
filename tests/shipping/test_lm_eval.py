"""What stock PEFT and stock lm-eval make of an exported state of 20 entries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ledger import Ledger
from seqedit.cli.main import run
from seqedit.demo import model_path
from seqedit.scoring.kinds import KIND_OUTCOMES, KIND_TASKS
from tests.shipping import twenty


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A ledger of 20 entries on demo-llama, the model in its last state."""
    place = tmp_path_factory.mktemp("twenty") / "ledger"
    return place, twenty.build(place, "llama")


def recorded(place: Path) -> tuple[float, float, list[int], list[list[float]]]:
    """mcc of the unedited model and of the last state; predictions and log-likelihoods of the last state."""
    with Ledger.open(place) as ledger:
        assert len(ledger.active()) == twenty.ENTRIES
        before, after = (ledger.scores(rev, KIND_TASKS)[KIND_TASKS]["cola"]["mcc"] for rev in (ledger.root(), "HEAD"))
        outcomes = ledger.scores("HEAD", KIND_OUTCOMES)[KIND_OUTCOMES]["cola"]["outcomes"]
    return before, after, [o["prediction"] for o in outcomes], [o["log_likelihoods"] for o in outcomes]


def test_stock_lm_eval_gives_an_exported_state_of_20_entries_the_scores_of_the_ledger(
    llama: tuple[Path, Any], tmp_path: Path
) -> None:
    place, _ = llama
    out = tmp_path / "adapter"
    assert run(["export", "--ledger", str(place), "--format", "peft", "--out", str(out)]) == 0
    before, after, predictions, likelihoods = recorded(place)
    assert abs(after - before) > 0.05, "the edits did not change the score, so it proves nothing"
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from evals.tasks.model import quiet

    with quiet():
        found = simple_evaluate(
            model="hf", model_args=f"pretrained={model_path('llama')},peft={out}", device="cpu", batch_size=16,
            tasks=[str(twenty.task_yaml(tmp_path, "cola"))], task_manager=TaskManager(include_defaults=False),
            bootstrap_iters=0, log_samples=True,
        )  # fmt: skip
    assert found["results"]["demo_cola"]["mcc,none"] == pytest.approx(after, abs=1e-12)
    samples = sorted(found["samples"]["demo_cola"], key=lambda sample: sample["doc_id"])
    values = [[response[0] for response in sample["filtered_resps"]] for sample in samples]
    assert [max((0, 1), key=value.__getitem__) for value in values] == predictions
    torch.testing.assert_close(torch.tensor(values), torch.tensor(likelihoods), rtol=1e-4, atol=1e-4)


def test_stock_peft_gives_the_logits_of_the_composed_state(llama: tuple[Path, Any], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    place, edited = llama
    assert run(["export", "--ledger", str(place), "--format", "peft", "--out", str(tmp_path / "a")]) == 0
    base = AutoModelForCausalLM.from_pretrained(model_path("llama")).eval()
    ids = edited.tokenizer([twenty.facts()[0].request.text], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        unedited = base(input_ids=ids).logits
        stock = PeftModel.from_pretrained(base, str(tmp_path / "a"))
        expected, found = edited.model(input_ids=ids).logits, stock(input_ids=ids).logits
        merged = stock.merge_and_unload()(input_ids=ids).logits
    assert float((expected - unedited).abs().max()) > 0.1, "the edits did nothing"
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["gpt2", "llama"])
def test_the_lm_eval_command_gives_the_scores_of_the_ledger(style: str, tmp_path: Path) -> None:
    """Tasks scored by accuracy: the command bootstraps the error of mcc 100,000 times, which takes many minutes."""
    tasks = ("sst2", "rte")
    twenty.build(tmp_path / "ledger", style, tasks=tasks)
    out = tmp_path / "adapter"
    assert run(["export", "--ledger", str(tmp_path / "ledger"), "--format", "peft", "--out", str(out)]) == 0
    with Ledger.open(tmp_path / "ledger") as ledger:
        before, after = (ledger.scores(rev, KIND_TASKS)[KIND_TASKS] for rev in (ledger.root(), "HEAD"))
    assert any(abs(after[task]["acc"] - before[task]["acc"]) > 0.02 for task in tasks), (before, after)
    for task in tasks:
        twenty.task_yaml(tmp_path, task)
    for name, peft, expected in (("before", "", before), ("after", f",peft={out}", after)):
        subprocess.run(
            [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model_path(style)}{peft}",
             "--tasks", ",".join(f"demo_{task}" for task in tasks), "--include_path", str(tmp_path), "--device", "cpu",
             "--batch_size", "16", "--output_path", str(tmp_path / name)],
            check=True, env={**os.environ, "HF_HOME": str(tmp_path / "home")},
        )  # fmt: skip
        (file,) = (tmp_path / name).rglob("results_*.json")
        found = json.loads(file.read_text())["results"]
        for task in tasks:
            assert found[f"demo_{task}"]["acc,none"] == pytest.approx(expected[task]["acc"], abs=1e-12), (name, task)
