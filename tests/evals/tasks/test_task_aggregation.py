"""A task's metrics are its own aggregation of its own per-document values, paired by document, of every kind."""

# ruff: noqa: E501
from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evals.gates import check_gates, parse_gates
from evals.statistics.changes import paired_change, task_changes
from evals.statistics.document_values import decode, encode
from evals.statistics.outcomes import Outcome, TaskResult
from evals.tasks.tasks import evaluate_tasks, load_tasks
from seqedit.errors import InputError

CODE = """
import numpy as np
from datasets import Dataset

def documents(**_):
    rows = [{"q": f"The sport of number {i} is", "c": ["golf", "rowing", "a long game"], "label": i * 2 % 3} for i in range(12)]
    return {"test": Dataset.from_list(rows)}

def macro_f1(items):
    from sklearn.metrics import f1_score
    gold, chosen = zip(*items)
    return float(np.mean([f1_score(np.array(gold) == k, np.array(chosen) == k) for k in range(3)]))

def weighted_f1(items):
    from sklearn.metrics import f1_score
    return f1_score(*zip(*items), average="weighted")

def mass(doc, results):
    p = np.exp([r[0] for r in results])
    return {"acc": float(p[doc["label"]] / p.sum())}

def records(doc, results):
    lls = [r[0] for r in results]
    return {"mcc": {"doc": doc["q"], "gold": doc["label"], "lls": np.array(lls)}, "f1": [doc["label"], float(np.argmax(lls))]}

def from_records(items):
    return float(np.mean([np.exp(i["lls"])[i["gold"]] / np.exp(i["lls"]).sum() for i in items]))

def from_lists(items):
    return sum(g == c for g, c in items) / len(items)

def order(items):
    return float(items[0][1] == items[0][0]) + 0.5 * float(items[-1][1] == items[-1][0]) + len({str(i) for i in items[::3]})

def some(doc, results):
    return {"acc": 1.0} | ({"rare": 1.0} if doc["label"] else {})

def objects(doc, results):
    return {"acc": 1.0, "odd": {1, 2}}

def count(items):
    return len(items)

def texts(items):
    return {"not": "a number"}
"""
BASE = """
task: own
custom_dataset: !function code.documents
test_split: test
doc_to_text: "{{q}}"
doc_to_target: label
doc_to_choice: "{{c}}"
"""
CHOICE = BASE + "output_type: multiple_choice\n"
GENERATE = """
task: own
custom_dataset: !function code.documents
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{c[0]}}"
output_type: generate_until
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}
"""
KINDS = {
    "macro f1": CHOICE + "metric_list: [{metric: acc}, {metric: f1, aggregation: !function code.macro_f1, higher_is_better: true}]",
    "weighted f1": CHOICE + "metric_list: [{metric: f1, aggregation: !function code.weighted_f1, higher_is_better: true}]",
    "own acc": CHOICE + "process_results: !function code.mass\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]",
    "records and lists": CHOICE + "process_results: !function code.records\nmetric_list: [{metric: mcc, aggregation: !function code.from_records, "
    "higher_is_better: true}, {metric: f1, aggregation: !function code.from_lists, higher_is_better: true}]",
    "norms": CHOICE + "metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}, {metric: acc_mutual_info}, {metric: mcc}]",
    "distribution": CHOICE + "metric_list: [{metric: brier_score}]",
    "median": CHOICE + "process_results: !function code.mass\nmetric_list: [{metric: acc, aggregation: median, higher_is_better: true}]",
    "likelihood": BASE.replace("doc_to_choice: \"{{c}}\"", "").replace("label", "'{{c[0]}}'")
    + "output_type: loglikelihood\nmetric_list: [{metric: perplexity}, {metric: acc}]",
    "texts": GENERATE + "metric_list: [{metric: bleu}, {metric: chrf}, {metric: exact_match}]",
    "filters": GENERATE + """
metric_list: [{metric: exact_match}]
filter_list:
  - {name: plain, filter: [{function: take_first}]}
  - {name: word, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}
""",
}  # fmt: skip


def task_file(folder: Path, text: str) -> str:
    (folder / "code.py").write_text(CODE)
    (folder / "own.yaml").write_text(text)
    return str(folder / "own.yaml")


@pytest.fixture(scope="module")
def damaged(reference_model: tuple[Any, Any]) -> Any:
    model = copy.deepcopy(reference_model[0])
    with torch.no_grad():
        model.transformer.h[3].mlp.c_proj.weight.mul_(2.5)
    return model


def stock(model: Any, tokenizer: Any, tasks: Any) -> dict[str, float]:
    """Stock lm-eval's numbers."""
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    from evals.tasks.model import quiet

    with quiet():
        own = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=4)
        results: dict[str, float] = evaluator.evaluate(own, {"tasks": dict(tasks.tasks)}, bootstrap_iters=0)["results"][
            "own"
        ]
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_their_changes_are_stock_lm_evals_numbers(
    kind: str, model: Any, tokenizer: Any, damaged: Any, tmp_path: Path
) -> None:
    tasks = load_tasks([task_file(tmp_path, KINDS[kind])])
    before, after = (evaluate_tasks(m, tokenizer, tasks)["own"] for m in (model, damaged))
    expected = [stock(m, tokenizer, tasks) for m in (model, damaged)]
    names = {m: m if "," in m else next(k for k in expected[0] if k.startswith(f"{m},")) for m in after.metrics}
    assert set(names.values()) == {k for k in expected[0] if "," in k and "_stderr" not in k}
    # What the ledger keeps of the baseline is enough.
    kept = TaskResult.from_dict("own", json.loads(json.dumps(before.to_dict(), allow_nan=False)))
    row = task_changes(after, kept, resamples=200)
    assert not [name for name in row if name.endswith("unpaired")]
    for metric, name in names.items():
        prefix = "" if metric == after.main_metric else f"{metric}_"
        old, new = (float(values[name]) for values in expected)
        assert row[metric] == pytest.approx(new, rel=1e-4, abs=1e-6)
        assert row[f"{prefix}change"] == pytest.approx(new - old, rel=1e-3, abs=1e-5)
        assert row[f"{prefix}ci_low"] <= row[f"{prefix}change"] <= row[f"{prefix}ci_high"]
        assert 0 < row[f"{prefix}p_value"] <= 1


def test_metrics_that_damage_raises_are_marked_and_gates_know_it(
    model: Any, tokenizer: Any, damaged: Any, tmp_path: Path
) -> None:
    tasks = load_tasks([task_file(tmp_path, KINDS["likelihood"])])
    before, after = (evaluate_tasks(m, tokenizer, tasks)["own"] for m in (model, damaged))
    row = task_changes(after, before, resamples=200)
    assert row["lower_is_better"] is True
    assert "acc_lower_is_better" not in row
    step = {"tasks": {"own": {**row, "perplexity": 25.0, "change": 5.0, "ci_low": 3.0, "ci_high": 7.0}}}
    for text, tripped in (("max_drop 2 at 95 %", True), ("max_drop 4 at 95 %", False), ("max_drop 4", True)):
        assert check_gates(parse_gates([f"own.perplexity: {text}"]), step, {})[0].tripped is tripped


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("process_results: !function code.some\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}, "
         "{metric: rare, aggregation: mean, higher_is_better: true}]", "rare_unpaired", "4 of 12 documents"),
        ("process_results: !function code.objects\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}, "
         "{metric: odd, aggregation: !function code.count, higher_is_better: true}]", "odd_unpaired", "a set cannot be kept"),
        ("metric_list: [{metric: f1, aggregation: !function code.order, higher_is_better: true}]", "unpaired", "order"),
        ("metric_list: [{metric: acc}, {metric: f1, aggregation: !function code.texts, higher_is_better: true}]",
         "f1_unpaired", "gives a dict"),
    ],
)  # fmt: skip
def test_a_metric_that_cannot_be_paired_says_why(
    text: str, field: str, message: str, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    tasks = load_tasks([task_file(tmp_path, CHOICE + text)])
    result = evaluate_tasks(model, tokenizer, tasks)["own"]
    row = task_changes(result, TaskResult.from_dict("own", json.loads(json.dumps(result.to_dict()))), resamples=50)
    assert message in row[field]
    metric = field.removesuffix("_unpaired") if "_" in field else result.main_metric
    assert f"{metric}_change" not in row
    if metric in result.metrics:
        with pytest.raises(InputError, match="paired by document"):
            check_gates(parse_gates([f"own.{metric}: max_drop 0.1"]), {"tasks": {"own": row}}, {})


def test_a_perplexity_beyond_all_numbers_does_not_end_the_evaluation(
    model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.huggingface import HFLM

    tasks = load_tasks([task_file(tmp_path, KINDS["likelihood"])])
    monkeypatch.setattr(HFLM, "loglikelihood", lambda self, requests, **_: [(-5000.0, False)] * len(requests))
    result = evaluate_tasks(model, tokenizer, tasks)["own"]
    assert result.metrics["perplexity"] == 1e300
    json.dumps(result.to_dict(), allow_nan=False)


def test_f1_of_more_labels_than_two_is_not_guessed() -> None:
    a = [Outcome(i, "", i % 3, (i * 2) % 3) for i in range(9)]
    with pytest.raises(InputError, match="without the task's own aggregation"):
        paired_change("f1", a, a)


def test_notes_come_back_as_they_were() -> None:
    notes = [1, 2.5, True, None, "text", (1, 2), [1, (2, "x")], {"a": [1], 3: (None,)}, math.inf]
    assert decode(json.loads(json.dumps(encode(notes), allow_nan=False))) == notes
    array = decode(json.loads(json.dumps(encode((0, np.array([[0.5, 0.25]]))))))
    assert isinstance(array[1], np.ndarray)
    assert array[1].tolist() == [[0.5, 0.25]]
    with pytest.raises(TypeError, match="set"):
        encode([{1}])


def test_a_definition_follows_all_that_decides_the_numbers(tmp_path: Path) -> None:
    def definition(text: str, *, code: str = CODE, limit: int | None = None) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "code.py").write_text(code)
        (folder / "own.yaml").write_text(text)
        return load_tasks([str(folder / "own.yaml")], limit=limit).definitions["own"]

    text = KINDS["macro f1"]
    first = definition(text)
    assert definition(text) == first  # wherever it lies
    others = [
        definition(text.replace("{{q}}", "{{q}}:")),
        definition(text.replace("doc_to_target: label", "doc_to_target: '{{2 - label}}'")),
        definition(text.replace("{metric: acc}, ", "")),
        definition(text, code=CODE.replace("range(12)", "range(11)")),
        definition(text, code=CODE.replace("range(3)])", "range(2)])")),
        definition(text, limit=5),
    ]
    assert len({first, *others}) == 7
