"""Stock lm_eval on base model and exported adapter: the ledger's numbers of facts and of CoLA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.tasks.library import task_folder
from ledger import Ledger
from seqedit.cli.main import run
from seqedit.demo import model_path
from seqedit.demo.location import demo_file
from seqedit.facts.lm_eval import RECORDS_VARIABLE
from seqedit.scoring.kinds import KIND_FORGETTING, KIND_OUTCOMES, KIND_SCORES, KIND_TASKS
from tests.shipping import twenty

FACTS = ("counterfact_efficacy", "counterfact_paraphrase", "counterfact_neighborhood", "zsre")
METRICS = ("ES", "PS", "NS", "EM", "PM", "NM", "ET", "PT", "NT")
NUMBER = {"cola": "mcc", "sst2": "acc", "mrpc": "f1", "rte": "acc"}


def stock(style: str, tasks: Sequence[str], records: Path, out: Path, adapter: Path | None = None) -> dict[str, Any]:
    """Metrics and samples by the lm_eval command, as a user types it."""
    peft = "" if adapter is None else f",peft={adapter}"
    subprocess.run(
        [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model_path(style)}{peft}",
         "--include_path", str(task_folder()), "--tasks", ",".join(tasks), "--device", "cpu", "--batch_size", "16",
         "--output_path", str(out), "--log_samples"],
        check=True, env={**os.environ, RECORDS_VARIABLE: str(records), "HF_HOME": str(out / "home")},
    )  # fmt: skip
    (file,) = out.rglob("results_*.json")
    found = json.loads(file.read_text())
    assert found["config"]["model"] == "hf"
    return found["results"] | {
        f"{name} samples": [
            json.loads(line) for line in next(out.rglob(f"samples_{name}_*.jsonl")).read_text("utf-8").splitlines()
        ]
        for name in tasks
    }


def recorded(ledger: Ledger, rev: str) -> dict[str, float]:
    """Scores over all facts of a state: the newest entry's and the earlier ones', weighed by their facts."""
    scores = ledger.scores(rev, KIND_SCORES)[KIND_SCORES]
    earlier = scores["earlier"]
    if earlier is None:
        return {metric: scores[metric] for metric in METRICS}
    entries = ledger.scores(rev, KIND_FORGETTING)[KIND_FORGETTING]
    count = sum(entry["requests"] for entry in entries.values())
    new = count - earlier["requests"]
    return {m: (new * scores[m] + earlier["requests"] * earlier[m]) / count for m in METRICS}


def check_facts(found: dict[str, Any], expected: dict[str, float]) -> None:
    """All nine numbers."""
    shares = {
        metric: value
        for task in FACTS
        for key, value in found[task].items()
        if (metric := key.removesuffix(",none")) in METRICS
    }
    assert shares.keys() == set(METRICS)
    # The mean of shares such as 3/10: equal but for the last bits of a sum.
    assert {m: 100 * v for m, v in shares.items()} == pytest.approx(expected, abs=1e-9)


def facts_file(folder: Path) -> Path:
    """The facts of the ledger in the published layout."""
    rows = json.loads(demo_file("counterfact.json").read_text("utf-8"))
    chosen = {record.request.case_id for record in twenty.facts()}
    path = folder / "facts.json"
    path.write_text(json.dumps([row for row in rows if row["case_id"] in chosen]))
    return path


def test_the_lm_eval_command_reproduces_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twenty, "ENTRIES", 6)
    twenty.build(tmp_path / "ledger", "llama")
    out = tmp_path / "adapter"
    assert run(["export", "--ledger", str(tmp_path / "ledger"), "--format", "peft", "--out", str(out)]) == 0
    found = stock("llama", (*FACTS, "demo_cola"), facts_file(tmp_path), tmp_path / "results", out)
    with Ledger.open(tmp_path / "ledger") as ledger:
        before, after = recorded(ledger, ledger.root()), recorded(ledger, "HEAD")
        cola = ledger.scores("HEAD", KIND_TASKS)[KIND_TASKS]["cola"]
        outcomes = ledger.scores("HEAD", KIND_OUTCOMES)[KIND_OUTCOMES]["cola"]["outcomes"]
    assert after["ES"] - before["ES"] > 25, "the edits did nothing, so equal numbers prove nothing"
    assert before["NS"] - after["NS"] > 5
    check_facts(found, after)
    assert found["demo_cola"]["mcc,none"] == pytest.approx(cola["mcc"], abs=1e-12)
    samples = sorted(found["demo_cola samples"], key=lambda sample: sample["doc_id"])
    assert [s["doc_hash"] for s in samples] == [o["doc_hash"] for o in outcomes]
    values = [[float(answer[0]) for answer in s["filtered_resps"]] for s in samples]
    assert [max((0, 1), key=value.__getitem__) for value in values] == [o["prediction"] for o in outcomes]


@pytest.mark.slow
@pytest.mark.parametrize("style", ["gpt2", "llama"])
def test_the_lm_eval_command_reproduces_the_ledger_before_and_after_20_entries(style: str, tmp_path: Path) -> None:
    place, out = tmp_path / "ledger", tmp_path / "adapter"
    twenty.build(place, style, tasks=tuple(NUMBER))
    assert run(["export", "--ledger", str(place), "--format", "peft", "--out", str(out)]) == 0
    records = facts_file(tmp_path)
    with Ledger.open(place) as ledger:
        for rev, adapter in ((ledger.root(), None), ("HEAD", out)):
            tasks = (*FACTS, *(f"demo_{name}" for name in NUMBER))
            found = stock(style, tasks, records, tmp_path / f"results-{adapter is None}", adapter)
            check_facts(found, recorded(ledger, rev))
            own = ledger.scores(rev, KIND_TASKS)[KIND_TASKS]
            for name, metric in NUMBER.items():
                assert found[f"demo_{name}"][f"{metric},none"] == pytest.approx(own[name][metric], abs=1e-12)
