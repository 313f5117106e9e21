"""Shipped lm-eval tasks: the numbers of docs/reference/scores.md, from any records, by stock lm-eval's own rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.scores.counterfact import score_records
from evals.tasks.answer_pieces import count_tokens, cut
from evals.tasks.library import shipped_tasks, task_folder
from evals.tasks.tasks import evaluate_tasks, load_tasks
from seqedit.cli.main import run
from seqedit.demo.location import demo_file
from seqedit.demo.tasks import CHOICES, TASKS
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.facts.lm_eval import RECORDS_VARIABLE, demo_documents, facts
from seqedit.facts.requests import Record

FACT_TASKS = {
    "counterfact_efficacy": ("ES", "EM"),
    "counterfact_paraphrase": ("PS", "PM"),
    "counterfact_neighborhood": ("NS", "NM"),
    "zsre": ("ET", "PT", "NT", "EM", "PM", "NM"),
}
ROW = {"subject": "Bado", "prompt": "The sport of {} is", "target_new": "golf", "target_true": "table tennis"}


@pytest.fixture(scope="module")
def file(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records with targets of unequal length."""
    path = tmp_path_factory.mktemp("facts") / "facts.json"
    extra = {**ROW, "case_id": "x", "paraphrase_prompts": ["Bado plays"], "neighborhood_prompts": ["Venxa plays"]}
    rows = [extra | {"target_new": target} for target in ("golf", "the game of golf in the city of London")]
    plain = [
        {**r.request.to_dict(), "paraphrase_prompts": list(r.paraphrase_prompts),
         "neighborhood_prompts": [{"prompt": n.prompt} for n in r.neighborhood_prompts]}
        for r in records
    ]  # fmt: skip
    path.write_text(json.dumps(plain + rows))
    return path


@pytest.mark.parametrize("family", ["reference_model", "llama"])
def test_metrics_are_those_of_the_ledger(family: str, file: Path, request: pytest.FixtureRequest) -> None:
    from seqedit.facts.loading import load_records

    model, tokenizer = request.getfixturevalue(family)
    expected = score_records(model, tokenizer, load_records(file))
    found = evaluate_tasks(model, tokenizer, load_tasks(FACT_TASKS, dict.fromkeys(FACT_TASKS, file)))
    for name, metrics in FACT_TASKS.items():
        for metric in metrics:
            assert 100 * found[name].metrics[metric] == pytest.approx(expected[metric], abs=1e-9), metric
            values = [o.values[metric] for o in found[name].outcomes]
            assert values == pytest.approx(expected.values(metric), abs=1e-9)
    assert found["zsre"].metrics["T_coverage"] == 1


def test_a_target_wins_by_its_mean_and_not_by_its_sum(file: Path, tokenizer: Any) -> None:
    task = load_tasks(["counterfact_efficacy"], {"counterfact_efficacy": file}).tasks["counterfact_efficacy"]
    task.tokenizer = tokenizer
    doc = task.eval_docs[-1]
    new, true = (count_tokens(tokenizer, pair) for pair in task._pairs(doc))
    assert new > true + 2
    per_token = -2.0, -2.5  # the longer target is the likelier one per token, the unlikelier one in all
    results = [(per_token[0] * new, False), (per_token[1] * true, True)]
    assert results[0][0] < results[1][0]
    assert task.process_results(doc, results) == {"ES": 1.0, "EM": 0.0}
    tie = [(-2.0 * new, False), (-2.0 * true, False)]
    assert task.process_results(doc, tie)["ES"] == 0


def test_every_task_loads_in_stock_lm_eval(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv(RECORDS_VARIABLE, str(file))
    manager = TaskManager(include_defaults=False, include_path=str(task_folder()))
    assert set(manager.all_subtasks) == set(shipped_tasks()) == set(FACT_TASKS) | {f"demo_{name}" for name in TASKS}
    loaded = manager.load(sorted(shipped_tasks()))["tasks"]
    for name, task in loaded.items():
        assert tuple(task.aggregation()) == shipped_tasks()[name].metrics
        assert set(task.higher_is_better().values()) == {True}
        json.dumps(task.dump_config(), default=str)


@pytest.mark.parametrize("name", TASKS)
def test_demo_tasks_are_glue_tasks_on_the_documents_of_the_demo_world(name: str) -> None:
    loaded = load_tasks([f"demo_{name}", name], {name: demo_file(f"tasks/{name}.jsonl")}).tasks
    ours, glue = loaded[f"demo_{name}"], loaded[name]
    assert list(ours.eval_docs) == list(glue.eval_docs)
    assert list(ours.aggregation()) == list(glue.aggregation())
    pairs = [(0, 0), (1, 0), (1, 1), (0, 1), (1, 1)]
    for metric, aggregate in ours.aggregation().items():
        items = [float(g == p) for g, p in pairs] if metric == "acc" else pairs
        assert aggregate(items) == pytest.approx(float(glue.aggregation()[metric](items)))
    for doc in list(ours.eval_docs)[:20]:
        assert ours.doc_to_text(doc) == glue.doc_to_text(doc)
        assert ours.doc_to_choice(doc) == glue.doc_to_choice(doc) == list(CHOICES[name])
        assert ours.doc_to_target(doc) == glue.doc_to_target(doc)


def test_metadata_goes_before_the_environment_and_that_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / f"{name}.json" for name in ("one", "two", "three")}
    for count, path in enumerate(files.values(), 1):
        path.write_text(json.dumps([ROW] * count))
    monkeypatch.setenv(RECORDS_VARIABLE, str(files["two"]))
    names = {name: str(path) for name, path in files.items()}
    # lm-eval hands its model arguments and the task's version over as well.
    other = {"pretrained": "somewhere", "peft": "adapter", "version": 1.0}
    assert len(facts(groups="E", records=names["one"], default=names["three"], **other)["test"]) == 1
    assert len(facts(groups="E", default=names["three"], **other)["test"]) == 2
    monkeypatch.delenv(RECORDS_VARIABLE)
    assert len(facts(groups="E", default=names["three"], **other)["test"]) == 3


def test_missing_records_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RECORDS_VARIABLE, raising=False)
    with pytest.raises(InputError, match=RECORDS_VARIABLE):
        facts(groups="EPN")
    (tmp_path / "bare.json").write_text(json.dumps([ROW]))
    with pytest.raises(InputError, match=r"bare\.json: no record has a prompt"):
        facts(groups="N", records=str(tmp_path / "bare.json"))


def test_a_record_without_true_answer_has_accuracies_only(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl"
    path.write_text(json.dumps({k: v for k, v in ROW.items() if k != "target_true"}))
    found = evaluate_tasks(model, tokenizer, load_tasks(["counterfact_efficacy"], {"counterfact_efficacy": path}))
    assert list(found["counterfact_efficacy"].metrics) == ["EM"]


def test_examples_templates_and_instructions_are_refused(file: Path, tokenizer: Any) -> None:
    task = load_tasks(["zsre"], {"zsre": file}).tasks["zsre"]
    task.tokenizer = tokenizer
    doc = task.eval_docs[0]
    with pytest.raises(InputError, match="num_fewshot"):
        task.fewshot_context(doc, num_fewshot=2)
    for option in ("apply_chat_template", "system_instruction"):
        with pytest.raises(InputError, match=option):
            task.fewshot_context(doc, num_fewshot=0, **{option: True})


def test_the_tokenizer_is_that_of_the_model_arguments(file: Path, tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    from seqedit.demo import model_path

    def loaded(**metadata: Any) -> Any:
        manager = TaskManager(
            include_defaults=False, include_path=str(task_folder()), metadata={"records": str(file), **metadata}
        )
        return manager.load(["counterfact_efficacy"])["tasks"]["counterfact_efficacy"]

    assert loaded(pretrained=str(model_path("llama"))).tokenizer.encode("a")[0] == 0
    other = loaded(pretrained="nowhere", tokenizer=str(model_path("gpt2"))).tokenizer
    assert len(other.encode("a")) == 1
    with pytest.raises(InputError, match="--metadata"):
        _ = loaded().tokenizer
    with pytest.raises(EnvironmentFailure, match="nothing-here"):
        _ = loaded(pretrained=str(tmp_path / "nothing-here")).tokenizer


def test_an_answer_is_cut_at_its_tokens_or_not_at_all(tokenizer: Any) -> None:
    pair = ("The sport of Bado is", " the game of golf in the city of London")
    pieces = cut(tokenizer, pair)
    assert pieces is not None
    assert len(pieces) == count_tokens(tokenizer, pair) > 4
    assert "".join(continuation for _, continuation in pieces) == pair[1]
    ids = tokenizer.encode("".join(pair))
    assert [tokenizer.encode(c + k)[len(tokenizer.encode(c)) :] for c, k in pieces] == [
        [i] for i in ids[len(tokenizer.encode(pair[0])) :]
    ]
    # Its bytes are tokens of their own: no text ends within the character.
    assert cut(tokenizer, ("The sport of Bado is", " 🎯")) is None
    with pytest.raises(InputError, match="adds no tokens"):
        count_tokens(tokenizer, ("The sport of Bado is", ""))


def test_answers_that_cannot_be_cut_are_counted_and_not_guessed(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    from evals.tasks.model import quiet

    path = tmp_path / "two.json"
    path.write_text(json.dumps([ROW, {**ROW, "target_new": "🎯"}]))
    tasks = load_tasks(["zsre"], {"zsre": path})
    tasks.tasks["zsre"].tokenizer = tokenizer
    with quiet():
        found = evaluator.evaluate(
            HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2), {"tasks": dict(tasks.tasks)}, bootstrap_iters=0
        )["results"]["zsre"]
    assert found["T_coverage,none"] == 0.5
    assert found["ET,none"] in (0.0, 1.0)  # of one record
    ours = evaluate_tasks(model, tokenizer, tasks)["zsre"]
    assert "ET" not in ours.metrics  # not comparable from step to step where some documents do not tell it
    assert list(ours.metrics) == ["EM", "T_coverage"]


def test_demo_documents_are_those_of_a_run() -> None:
    lines = demo_file("tasks/cola.jsonl").read_text("utf-8").splitlines()
    assert list(demo_documents(demo_task="cola", version=1)["validation"]) == [json.loads(line) for line in lines]


def test_the_command_prints_the_folder_and_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks"]) == 0
    assert capsys.readouterr().out == f"{task_folder()}\n"
    assert run(["tasks", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(shipped_tasks())
    assert run(["tasks", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["folder"] == str(task_folder())
    assert {t["name"]: tuple(t["metrics"]) for t in printed["tasks"]}["counterfact_neighborhood"] == ("NS", "NM")
    assert all(Path(task["file"]).is_file() for task in printed["tasks"])


def test_tables_show_the_main_metric_of_tasks_of_facts() -> None:
    from seqedit.cli.output import shown_metric

    assert shown_metric({"ES": 0.5, "EM": 0.25}) == "ES"
    assert shown_metric({"ES": 0.5, "metric": "ES", "change": -0.5, "EM": 0.25}) == "ES"
    assert shown_metric({"acc": 0.5, "f1": 0.25}) == "acc"
    assert shown_metric({}) is None
