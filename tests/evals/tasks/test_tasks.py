"""lm-eval tasks on an in-memory model: same numbers as stock lm-eval, same documents every time."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.statistics.changes import task_changes
from evals.tasks.tasks import GLUE_TASKS, evaluate_tasks, load_tasks
from seqedit.errors import InputError

WORDS = [
    "Venxa Ulmigri competes in rowing.",
    "The sport of Bado is golf.",
    "Many people came.",
    "It rained all day",
]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small made-up documents for the four tasks."""
    folder = tmp_path_factory.mktemp("glue")
    result = {}
    for number, task in enumerate(GLUE_TASKS):
        rows = []
        for index in range(10):
            first, second = WORDS[index % 4], WORDS[(index + number) % 4]
            text = (
                {"sentence": f"{first} {index}"}
                if task in ("cola", "sst2")
                else {"sentence1": f"{first} {index}", "sentence2": second}
            )
            rows.append({**text, "label": (index * 7 + number) % 3 % 2, "idx": index})
        path = folder / f"{task}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        result[task] = path
    return result


@pytest.fixture(scope="session")
def tasks(files: dict[str, Path]) -> Any:
    return load_tasks(GLUE_TASKS, files)


@pytest.mark.parametrize("family", ["reference_model", "llama"])
def test_equals_stock_lm_eval(family: str, tasks: Any, request: pytest.FixtureRequest) -> None:
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    from evals.tasks.model import quiet

    model, tokenizer = request.getfixturevalue(family)
    ours = evaluate_tasks(model, tokenizer, tasks)
    with quiet():
        stock = evaluator.evaluate(
            HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=4),
            {"tasks": dict(tasks.tasks)},
            bootstrap_iters=0,
        )
    for name in GLUE_TASKS:
        for metric, value in ours[name].metrics.items():
            assert value == pytest.approx(float(stock["results"][name][f"{metric},none"]))
        for outcome, sample in zip(ours[name].outcomes, stock["samples"][name], strict=True):
            assert (outcome.doc_id, outcome.doc_hash) == (sample["doc_id"], sample["doc_hash"])
            expected = [response[0] for response in sample["filtered_resps"]]
            assert outcome.log_likelihoods == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_metrics_are_the_tasks_own_and_follow_from_the_outcomes(model: Any, tokenizer: Any, tasks: Any) -> None:
    results = evaluate_tasks(model, tokenizer, tasks)
    assert {name: list(r.metrics) for name, r in results.items()} == {
        "cola": ["mcc"],
        "sst2": ["acc"],
        "mrpc": ["acc", "f1"],
        "rte": ["acc"],
    }
    for name in ("sst2", "mrpc", "rte"):
        outcomes = results[name].outcomes
        assert results[name].metrics["acc"] == sum(bool(o.correct) for o in outcomes) / len(outcomes)
        assert all(o.correct == (o.prediction == o.gold) for o in outcomes)
    assert [o.gold for o in results["sst2"].outcomes] == [(i * 7 + 1) % 3 % 2 for i in range(10)]
    json.dumps({name: result.to_dict() for name, result in results.items()}, allow_nan=False)


def test_same_documents_and_numbers_at_every_step(model: Any, tokenizer: Any, tasks: Any) -> None:
    first, second = (evaluate_tasks(model, tokenizer, tasks, max_tokens_per_batch=n) for n in (60, 4096))
    for name in GLUE_TASKS:
        assert [o.doc_hash for o in first[name].outcomes] == [o.doc_hash for o in second[name].outcomes]
        assert [o.prediction for o in first[name].outcomes] == [o.prediction for o in second[name].outcomes]
        entry = task_changes(second[name], first[name], resamples=100)
        assert (entry["change"], entry["ci_low"], entry["ci_high"]) == (0, 0, 0)


def test_an_edit_in_place_is_seen(model: Any, tokenizer: Any, tasks: Any) -> None:
    own = copy.deepcopy(model)
    before = evaluate_tasks(own, tokenizer, tasks)
    with torch.no_grad():
        own.transformer.h[3].mlp.c_proj.weight.mul_(1.5)
    after = evaluate_tasks(own, tokenizer, tasks)
    assert before["sst2"].outcomes[0].log_likelihoods != after["sst2"].outcomes[0].log_likelihoods


def test_model_and_tokenizer_are_left_as_they_were(model: Any, tokenizer: Any, tasks: Any) -> None:
    own, own_tokenizer = copy.deepcopy(model).train(), copy.deepcopy(tokenizer)
    own_tokenizer.pad_token = None
    own_tokenizer.padding_side = "right"
    weights = {k: v.clone() for k, v in own.state_dict().items()}
    evaluate_tasks(own, own_tokenizer, tasks)
    assert own.training
    assert all(torch.equal(v, weights[k]) for k, v in own.state_dict().items())
    assert own_tokenizer.pad_token is None
    assert own_tokenizer.padding_side == "right"


@pytest.mark.parametrize(("family", "expected"), [("reference_model", 0), ("llama", 1)])
def test_contexts_have_the_tokenizers_bos_once(
    family: str, expected: int, tasks: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    import evals.tasks.model as task_model

    model, tokenizer = request.getfixturevalue(family)
    seen: list[Any] = []
    real = task_model.score_continuations

    def spy(model: Any, pairs: Any, **options: Any) -> Any:
        seen.extend(pairs)
        return real(model, pairs, **options)

    monkeypatch.setattr(task_model, "score_continuations", spy)
    evaluate_tasks(model, tokenizer, tasks)
    assert len(seen) == 80
    for context, continuation in seen:
        assert context.count(tokenizer.bos_token_id) == expected
        assert context[0] == tokenizer.bos_token_id or not expected
        assert tokenizer.bos_token_id not in continuation


def test_too_long_a_document_loses_its_beginning(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    tail = "Many people came to the market and stayed. " * 20
    rows = [{"sentence": f"{noise} {tail}", "label": 1, "idx": 0} for noise in ("golf", "rowing")]
    path = tmp_path / "sst2.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    one, other = evaluate_tasks(model, tokenizer, load_tasks(["sst2"], {"sst2": path}))["sst2"].outcomes
    assert one.log_likelihoods == pytest.approx(other.log_likelihoods)
    assert one.doc_hash != other.doc_hash


def test_texts_that_lose_their_beginning_are_counted_and_said_once(
    model: Any, tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"sentence": "word " * n, "label": 1, "idx": n} for n in (2, 4_000, 5_000)]
    (tmp_path / "cola.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = load_tasks(["cola"], {"cola": tmp_path / "cola.jsonl"})
    for _ in range(2):
        evaluate_tasks(model, tokenizer, loaded)
    told = [r.getMessage() for r in caplog.records if "lose their beginning" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("2 texts of the tasks cola")


def test_peft_model_is_evaluated_as_it_stands(model: Any, tokenizer: Any, tasks: Any) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=["transformer.h.2.mlp.c_proj"], r=2, fan_in_fan_out=True)
    wrapped = get_peft_model(copy.deepcopy(model), config)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))
    adapted = evaluate_tasks(wrapped, tokenizer, tasks)["sst2"].outcomes
    merged = evaluate_tasks(wrapped.merge_and_unload(), tokenizer, tasks)["sst2"].outcomes
    plain = evaluate_tasks(model, tokenizer, tasks)["sst2"].outcomes
    for a, m, p in zip(adapted, merged, plain, strict=True):
        assert a.log_likelihoods == pytest.approx(m.log_likelihoods, abs=1e-3)
        assert a.log_likelihoods != pytest.approx(p.log_likelihoods, abs=1e-2)


def test_nothing_is_printed_and_nothing_warned(
    model: Any, tokenizer: Any, files: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate_tasks(model, tokenizer, load_tasks(["cola", "mrpc"], {n: files[n] for n in ("cola", "mrpc")}))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_local_documents_need_neither_network_nor_cache(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*_: Any) -> None:
        raise AssertionError("network used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    load_tasks(["cola"], {"cola": files["cola"]})
    assert not (tmp_path / "cache").exists()


def test_limit_keeps_the_first_documents(model: Any, tokenizer: Any, files: dict[str, Path], tasks: Any) -> None:
    everything = evaluate_tasks(model, tokenizer, tasks)["rte"].outcomes
    some = evaluate_tasks(model, tokenizer, load_tasks(["rte"], {"rte": files["rte"]}, limit=3))["rte"].outcomes
    assert [o.doc_hash for o in some] == [o.doc_hash for o in everything[:3]]


def test_json_list_is_read_like_jsonl(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "cola.json"
    path.write_text(json.dumps([json.loads(line) for line in files["cola"].read_text().splitlines()]))
    assert len(load_tasks(["cola"], {"cola": path}).tasks["cola"].eval_docs) == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [("{not json", "neither JSONL nor JSON"), ("", "at least one row"), ("[1]", "object")],
)
def test_unreadable_data_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "cola.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"cola\.jsonl.*{message}"):
        load_tasks(["cola"], {"cola": path})


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_tasks([str(tmp_path / "nothing.yaml")])
    with pytest.raises(InputError, match=r"'sst'.*not among"):
        load_tasks(["cola"], {"sst": tmp_path / "x.jsonl"})
    with pytest.raises(InputError, match="cannot be read"):
        load_tasks(["cola"], {"cola": tmp_path / "x.jsonl"})


def test_no_tasks_are_no_results(model: Any, tokenizer: Any) -> None:
    assert evaluate_tasks(model, tokenizer, load_tasks([])) == {}


def test_real_glue_documents(model: Any, tokenizer: Any, shared_data: Path) -> None:
    loaded = load_tasks(GLUE_TASKS, {n: shared_data / "glue" / f"{n}.jsonl" for n in GLUE_TASKS}, limit=12)
    results = evaluate_tasks(model, tokenizer, loaded)
    assert all(len(result.outcomes) == 12 for result in results.values())
