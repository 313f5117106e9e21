"""Any lm-eval task by name: all of GLUE, every kind of output, and reasons where one cannot be compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score

from evals.statistics.changes import task_changes
from evals.statistics.outcomes import Outcome
from evals.tasks.loading import TaskFinder, check_task
from evals.tasks.tasks import LoadedTasks, evaluate_tasks, load_tasks
from seqedit.errors import InputError

SENTENCES = (
    "Venxa Ulmigri competes in rowing.",
    "The sport of Bado is golf.",
    "Many people came.",
    "It rained all day",
)
COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "rte": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"),
    "mnli": ("premise", "hypothesis"),
    "wnli": ("sentence1", "sentence2"),
}
METRICS = {"cola": ["mcc"], "mrpc": ["acc", "f1"], "qqp": ["acc", "f1"]}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small made-up documents for all eight tasks, with GLUE's columns."""
    folder = tmp_path_factory.mktemp("glue")
    files = {}
    for number, (task, columns) in enumerate(COLUMNS.items()):
        labels = 3 if task == "mnli" else 2
        rows = [
            {c: f"{SENTENCES[(i * (k + 1) + number) % 4]} {i}" for k, c in enumerate(columns)}
            | {"label": (i * 5 + number) % 7 % labels, "idx": i}
            for i in range(9)
        ]
        files[task] = write(folder / f"{task}.jsonl", rows)
    return files


@pytest.fixture(scope="module")
def damaged(reference_model: tuple[Any, Any]) -> Any:
    model = copy.deepcopy(reference_model[0])
    with torch.no_grad():
        model.transformer.h[3].mlp.c_proj.weight.mul_(1.5)
    return model


@pytest.fixture(scope="module")
def finder() -> TaskFinder:
    """One index of lm-eval's tasks for the whole module: it takes seconds to make."""
    return TaskFinder()


def test_all_of_glue_equals_stock_lm_eval_and_pairs_with_the_baseline(
    model: Any, tokenizer: Any, damaged: Any, glue: dict[str, Path]
) -> None:
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    from evals.tasks.model import quiet

    tasks = load_tasks(glue, glue)
    before, after = evaluate_tasks(model, tokenizer, tasks), evaluate_tasks(damaged, tokenizer, tasks)
    with quiet():
        stock = evaluator.evaluate(
            HFLM(pretrained=damaged, tokenizer=copy.deepcopy(tokenizer), batch_size=4),
            {"tasks": dict(tasks.tasks)}, bootstrap_iters=0,
        )  # fmt: skip
    for name in COLUMNS:
        assert list(after[name].metrics) == METRICS.get(name, ["acc"])
        assert {o.gold for o in after[name].outcomes} == set(range(3 if name == "mnli" else 2))
        for metric, value in after[name].metrics.items():
            assert value == pytest.approx(float(stock["results"][name][f"{metric},none"]))
        for outcome, sample in zip(after[name].outcomes, stock["samples"][name], strict=True):
            assert outcome.doc_hash == sample["doc_hash"]
            expected = [response[0] for response in sample["filtered_resps"]]
            assert outcome.log_likelihoods == pytest.approx(expected, rel=1e-5, abs=1e-4)
        change = task_changes(after[name], before[name], resamples=50)
        assert change[after[name].main_metric] == pytest.approx(after[name].value)
        gold, chosen = zip(*((o.gold, o.prediction) for o in after[name].outcomes), strict=True)
        weighted = f1_score(gold, chosen, average="weighted", zero_division=0)
        assert change["f1_weighted"] == pytest.approx(weighted)
        assert {"f1_weighted_change", "f1_weighted_ci_low", "f1_weighted_ci_high"} <= set(change)


CHOICES = """
task: choices
output_type: multiple_choice
test_split: test
doc_to_text: "{{sentence}} Answer:"
doc_to_target: label
doc_to_choice: "{{answers}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


@pytest.mark.parametrize(
    ("answers", "label", "labels"),
    [
        (lambda i: ["no", "yes"], lambda i: i % 2, 2),
        (lambda i: ["golf", "rowing", f"the number {i}"], lambda i: i % 2, None),
    ],
)
def test_weighted_f1_is_told_where_all_documents_have_the_same_labels(
    answers: Any, label: Any, labels: int | None, tmp_path: Path, model: Any, tokenizer: Any
) -> None:
    name = yaml(tmp_path, CHOICES)
    rows = [{"sentence": f"Number {i}", "answers": answers(i), "label": label(i)} for i in range(6)]
    tasks = load_tasks([name], {name: write(tmp_path / "rows.jsonl", rows)})
    found = evaluate_tasks(model, tokenizer, tasks)[name]
    assert found.labels == labels
    assert ("f1_weighted" in found.told) is (labels is not None)
    assert "f1_weighted" not in found.metrics


FEWSHOT = """
task: shots
custom_dataset: !function rows.documents
training_split: train
fewshot_split: train
test_split: test
output_type: multiple_choice
doc_to_text: "{{sentence}} Answer:"
doc_to_target: label
doc_to_choice: ["no", "yes"]
num_fewshot: 2
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
GENERATION = """
task: answers
custom_dataset: !function rows.documents
test_split: test
output_type: generate_until
doc_to_text: "{{sentence}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: SAMPLE, temperature: TEMPERATURE}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
"""
ROWS = """
from datasets import Dataset
def documents(**_):
    rows = [{"sentence": f"The sport of number {i} is", "answer": "golf", "label": i % 2} for i in range(12)]
    return {"train": Dataset.from_list(rows[4:]), "test": Dataset.from_list(rows[:4])}
"""


def yaml(folder: Path, text: str, **values: str) -> str:
    (folder / "rows.py").write_text(ROWS)
    for name, value in values.items():
        text = text.replace(name, value)
    (folder / "task.yaml").write_text(text)
    return str(folder / "task.yaml")


def test_the_same_examples_stand_before_the_documents_at_every_step(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    tasks = load_tasks([yaml(tmp_path, FEWSHOT)])
    asked = []
    for _ in range(3):
        evaluate_tasks(model, tokenizer, tasks)
        asked.append([instance.arguments[0] for instance in tasks.tasks["shots"].instances])
    assert asked[0][0].count("Answer:") == 3
    assert len({text.split("Answer:")[0] for text in asked[0]}) > 1, "one document's examples are all documents' ones"
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize(("sample", "temperature"), [("false", "0.0"), ("true", "2.0")])
def test_generated_texts_are_kept_the_same_at_every_step_and_quiet(
    sample: str, temperature: str, model: Any, tokenizer: Any, damaged: Any, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    capfd.readouterr()
    tasks = load_tasks([yaml(tmp_path, GENERATION, SAMPLE=sample, TEMPERATURE=temperature)])
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first = evaluate_tasks(model, tokenizer, tasks)["answers"]
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.random.get_rng_state(), state)
    again, other = (evaluate_tasks(m, tokenizer, tasks)["answers"] for m in (model, damaged))
    texts = [[o.text for o in result.outcomes] for result in (first, again, other)]
    assert all(texts[0])
    assert texts[0] == texts[1] != texts[2]
    assert list(first.metrics) == ["exact_match"]
    assert first.metrics["exact_match"] == sum(o.values["exact_match"] for o in first.outcomes) / 4
    assert task_changes(again, first, resamples=50)["change"] == 0
    assert Outcome.from_dict(json.loads(json.dumps(first.outcomes[0].to_dict()))) == first.outcomes[0]


def test_a_model_with_too_few_positions_for_a_text_is_refused(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    text = GENERATION.replace("max_gen_toks: 6", "max_gen_toks: 100000")
    tasks = load_tasks([yaml(tmp_path, text, SAMPLE="false", TEMPERATURE="0.0")])
    with pytest.raises(InputError, match="max tokens"):
        evaluate_tasks(model, tokenizer, tasks)


def test_likelihood_tasks_keep_what_can_be_compared(
    model: Any, tokenizer: Any, tmp_path: Path, finder: TaskFinder
) -> None:
    rows = [{"text": f"{SENTENCES[i % 4]} The sport of Bado is golf"} for i in range(4)]
    task = finder.load_on("lambada_openai", write(tmp_path / "rows.jsonl", rows))
    assert check_task("lambada_openai", task) == []
    result = evaluate_tasks(model, tokenizer, LoadedTasks({"lambada_openai": task}))["lambada_openai"]
    assert list(result.metrics) == ["perplexity", "acc"]
    assert result.lower_is_better == ("perplexity",)
    assert all(o.log_likelihoods[0] < 0 for o in result.outcomes)
    path = tmp_path / "own.yaml"
    path.write_text(
        FEWSHOT.replace("num_fewshot: 2", "num_fewshot: 0").replace("task: shots", "task: own")
        + "  - {metric: brier_score, aggregation: brier_score, higher_is_better: false}\n"
    )
    (tmp_path / "rows.py").write_text(ROWS)
    brier = evaluate_tasks(model, tokenizer, load_tasks([str(path)]))["own"]
    assert list(brier.metrics) == ["acc", "brier_score"]
    assert (brier.lower_is_better, brier.unpaired) == (("brier_score",), {})


def test_choices_before_a_common_ending_have_a_right_one(
    model: Any, tokenizer: Any, tmp_path: Path, finder: TaskFinder
) -> None:
    rows = [
        {"sentence": "Bado plays golf because _ likes it.", "option1": "Bado", "option2": "Venxa", "answer": str(n)}
        for n in (1, 2)
    ]
    task = finder.load_on("winogrande", write(tmp_path / "rows.jsonl", rows))
    result = evaluate_tasks(model, tokenizer, LoadedTasks({"winogrande": task}))["winogrande"]
    assert [o.gold for o in result.outcomes] == [0, 1]
    assert result.metrics["acc"] == sum(bool(o.correct) for o in result.outcomes) / 2 == 0.5


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("wikitext", {"page": "Bado plays golf ."}, "no metric that is a mean over documents"),
        ("gsm8k", {"question": "1+1?", "answer": "#### 2"}, "5 examples of its training split"),
        ("squadv2", {"context": "", "question": ""}, "written in Python"),
        ("mmlu", {"question": ""}, "group of tasks"),
        ("no_such_task_at_all", {"question": ""}, "unknown lm-eval task"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_reason(
    name: str, row: dict[str, Any], message: str, tmp_path: Path, finder: TaskFinder
) -> None:
    from evals.tasks.model import quiet

    with quiet(), pytest.raises(InputError, match=message):
        check_task(name, finder.load_on(name, write(tmp_path / "rows.jsonl", [row])))


@pytest.mark.parametrize("missing", ["sentence", "label"])
def test_a_missing_column_is_named(missing: str, tmp_path: Path) -> None:
    row = {k: v for k, v in {"sentence": "Bado plays golf.", "label": 1, "idx": 0}.items() if k != missing}
    with pytest.raises(InputError, match=rf"rows\.jsonl: a column that task 'sst2' needs.*{missing}"):
        load_tasks(["sst2"], {"sst2": write(tmp_path / "rows.jsonl", [row])})


def test_tasks_with_images_or_with_code_to_run_are_refused(tmp_path: Path) -> None:
    unsafe = yaml(tmp_path, FEWSHOT + "unsafe_code: true\n")
    with pytest.raises(InputError, match="runs code"):
        load_tasks([unsafe])
    images = yaml(tmp_path, FEWSHOT + "doc_to_image: sentence\n")
    with pytest.raises(InputError, match="images or sound"):
        load_tasks([images])
