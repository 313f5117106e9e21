"""Facts in Chinese, Japanese and Arabic, and in a chat template: edited, kept and scored on a model that knows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seqedit.cli.main import run
from tests.languages import JOINTS, PROMPTS, facts, train

SETTINGS = {"steps": 30, "learning_rate": 0.3, "clamp_norm_factor": 6, "kl_factor": 0, "weight_decay": 0}
EDIT = ["--layers", "0", *(part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}"))]
"""A closed form moves what so small a model reads at one token only so far."""
NOT_MOVED = {(method, "chat") for method in ("memit", "emmet", "rome")}
"""Inside its template the model reads a subject at more than its last token; a real one's edits are in the guide."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("languages"))


@pytest.fixture(scope="module")
def loaded(model: Path) -> tuple[Any, Any]:
    from seqedit.models.loading import load_model

    return load_model(str(model))


def _file(folder: Path, language: str, count: int = 1) -> Path:
    path = folder / f"{language}.jsonl"
    rows = [json.dumps({k: v for k, v in fact.to_dict().items() if k != "join"}) for fact in facts(language)[:count]]
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def _chat(language: str) -> list[str]:
    return ["--chat-template"] if language == "chat" else []


def _plain_nll(model: Any, tokenizer: Any, language: str, prompt: str, target: str) -> float:
    """Mean NLL per token of a target: one forward pass over the tokens of the whole text."""
    if language == "chat":
        turn = [{"role": "user", "content": prompt}]
        before = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    else:
        before = tokenizer.bos_token + prompt
    encoded = tokenizer(before + JOINTS[language] + target, add_special_tokens=False, return_offsets_mapping=True)
    first = next(i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(before))
    ids = torch.tensor([encoded["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].double().log_softmax(-1)
    picked = logits[:-1].gather(1, ids[0, 1:, None])[first - 1 :, 0]
    return float(-picked.mean())


def _run_json(capsys: Any, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("language", list(PROMPTS))
def test_what_the_model_knows_by_heart_is_scored_as_a_plain_forward_pass_has_it(
    language: str, model: Path, loaded: tuple[Any, Any], tmp_path: Path, capsys: Any
) -> None:
    file = _file(tmp_path, language, 4)
    found = _run_json(capsys, "score", "--model", str(model), "--records", str(file), *_chat(language))
    for fact, record in zip(facts(language), found["records"], strict=True):
        (row,) = record["rewrite"]
        for target, nll in ((fact.target_new, row["nll_new"]), (str(fact.target_true), row["nll_true"])):
            assert nll == pytest.approx(_plain_nll(*loaded, language, fact.text, target), abs=1e-5)
        assert row["nll_true"] < 0.1, "the model was trained on this answer"
    other = "none" if language == "ar" else "space"
    assert language == "chat" or found.get("join") == ("auto" if language != "ar" else None)
    spaced = _run_json(
        capsys, "score", "--model", str(model), "--records", str(file), *_chat(language), "--join", other
    )
    assert min(r["rewrite"][0]["nll_true"] for r in spaced["records"]) > 1, "joined in another way it is unknown"


@pytest.mark.parametrize("method", ["memit", "emmet", "rome", "lora"])
@pytest.mark.parametrize("language", list(PROMPTS))
def test_an_edit_teaches_the_answer_that_the_model_would_write(
    language: str, method: str, model: Path, tmp_path: Path, capsys: Any
) -> None:
    from seqedit.adapters.adapter import Adapter
    from seqedit.editing.compute import apply_adapter
    from seqedit.models.loading import load_model

    (fact,), file, out = facts(language)[:1], _file(tmp_path, language), tmp_path / "adapter"
    bare = tmp_path / "contexts.json"
    bare.write_text('[["{}"]]', "utf-8")
    how = ["--layers", "0,1,2", "--set", "learning_rate=0.02"] if method == "lora" else EDIT
    made = _run_json(
        capsys, "edit", str(file), "--method", method, "--model", str(model), "--out", str(out),
        "--text", str(model / "corpus.txt"), "--context-templates", str(bare), *how, *_chat(language),
    )  # fmt: skip
    if method == "lora":  # what is taught is what is measured
        assert made["learnt"]["learnt"] == 1, made["learnt"]
    adapter = Adapter.from_pretrained(out)
    sidecar = json.loads((out / "seqedit.json").read_text("utf-8"))
    framed = language != "ar"
    assert sidecar["format"] == (2 if framed else 1)
    assert sidecar["requests"][0].get("join") == ("auto" if language in ("zh", "ja") else None)
    assert adapter.requests[0].chat_template == made.get("chat_template")
    assert (made.get("chat_template") is not None) == (language == "chat")
    assert ("joined" in (out / "README.md").read_text("utf-8")) == framed
    # Scored later, without saying so again: as the adapter was made.
    found = _run_json(capsys, "score", "--model", str(model), "--records", str(file), "--adapter", str(out))
    edited, tokenizer = load_model(str(model))
    apply_adapter(edited, adapter)
    (row,) = found["records"][0]["rewrite"]
    assert row["nll_new"] == pytest.approx(
        _plain_nll(edited, tokenizer, language, fact.text, fact.target_new), abs=1e-5
    )
    before, _ = load_model(str(model))
    if (method, language) in NOT_MOVED:
        return
    assert row["nll_new"] < _plain_nll(before, tokenizer, language, fact.text, fact.target_new) * 0.9


def test_a_ledger_keeps_how_each_entry_was_put_to_the_model(model: Path, tmp_path: Path, capsys: Any) -> None:
    ledger = str(tmp_path / "ledger")
    where = ["--ledger", ledger, "--method", "lora", "--layers", "0,1,2", "--set", "learning_rate=0.02"]
    assert run(["init", "--model", str(model), "--ledger", ledger]) == 0
    for language in ("zh", "chat", "ar"):
        assert run(["edit", str(_file(tmp_path, language)), *where, *_chat(language)]) == 0
    assert run(["verify", "--ledger", ledger]) == 0
    found = _run_json(capsys, "eval", "--ledger", ledger)
    assert found["scores"]["ES"] == 100
    assert found["join"] == "auto"
    records = tmp_path / "records.jsonl"
    records.write_text(
        "".join((tmp_path / f"{name}.jsonl").read_text("utf-8") for name in ("zh", "chat", "ar")), "utf-8"
    )
    with_records = _run_json(capsys, "eval", "--ledger", ledger, "--records", str(records))
    assert with_records["scores"]["earlier"] == found["scores"]["earlier"]
    other = _run_json(capsys, "eval", "--ledger", ledger, "--join", "none")
    assert (found["scores"]["EM"], other["scores"]["EM"]) == (100, 0), "the Arabic answer comes after a space"
    assert run(["eval", "--ledger", ledger, "--join", "space", "--keep"]) == 2


def test_an_older_ledgers_chinese_fact_is_scored_as_it_was_taught(model: Path, loaded: tuple[Any, Any]) -> None:
    from evals.scores.counterfact import score_records
    from seqedit.facts.requests import Record, Request

    fact = facts("zh")[0]
    old = Request.from_dict({k: v for k, v in fact.to_dict().items() if k != "join"})
    (spaced, told) = (Record(old), Record(replace(fact, join="space")))
    assert score_records(*loaded, [spaced]) == score_records(*loaded, [told])
    assert score_records(*loaded, [spaced]) != score_records(*loaded, [Record(fact)])


def test_the_subject_is_found_inside_the_template_and_contexts_stand_in_the_users_turn(loaded: tuple[Any, Any]) -> None:
    from seqedit.text.chat import template_digest
    from seqedit.text.lookup import tokenize_kl_prompt, tokenize_request

    tokenizer = loaded[1]
    for subject, prompt in (("Velmora", "What is the capital of {}?"), ("Velmora", "{}"), (" Velmora", "{} lies in")):
        fact = replace(facts("chat")[0], subject=subject, prompt=prompt, chat_template=template_digest(tokenizer))
        for context in ("{}", "It rained. {}"):
            found = tokenize_request(tokenizer, fact, context, with_target=True)
            assert tokenizer.decode(found.ids[: found.lookup + 1]).endswith("Velmora")
            text = tokenizer.decode(found.ids[: found.target_start + 1])
            turn = [{"role": "user", "content": context.replace("{}", fact.text)}]
            assert text == tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        assert "<|user|>" in tokenizer.decode(tokenize_kl_prompt(tokenizer, fact).ids)


def test_generation_asks_in_the_template_and_needs_no_second_bos(loaded: tuple[Any, Any]) -> None:
    from evals.answers.answers import Asking, ask
    from seqedit.text.chat import chat_frame, template_digest
    from seqedit.text.tokenization import encode

    model, tokenizer = loaded
    prompts = [fact.text for fact in facts("chat")]
    said = ask(model, tokenizer, prompts, Asking(chat_template=template_digest(tokenizer), max_new_tokens=16))
    assert list(said.values()) == [fact.target_true for fact in facts("chat")]
    turn = [{"role": "user", "content": prompts[0]}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
    rendered = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert encode(tokenizer, rendered)[0] == encode(tokenizer, chat_frame(tokenizer).around(prompts[0]))[0] == ids


def test_a_model_without_a_chat_template_is_refused_before_it_is_loaded(tmp_path: Path, capsys: Any) -> None:
    file = _file(tmp_path, "chat")
    for verb in (
        ["edit", str(file), "--method", "rome", "--out", str(tmp_path / "out"), "--layers", "1"],
        ["score", "--records", str(file)], ["tune", "--records", str(file)], ["locate", "--records", str(file)],
        ["plan", str(file), "--method", "rome", "--layers", "1"],
        ["benchmark", "real-life", "--records", str(file)],
    ):  # fmt: skip
        capsys.readouterr()
        assert run([*verb, "--model", "demo-gpt2", "--chat-template"]) == 2
        error = capsys.readouterr().err
        assert "no chat template" in error
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()
        assert run([*verb, "--model", "demo-gpt2", "--join", "spaces"]) == 2
        assert "join must be auto, space or none" in capsys.readouterr().err


def test_another_chat_template_than_the_edits_is_named(loaded: tuple[Any, Any]) -> None:
    from seqedit.errors import InputError
    from seqedit.text.lookup import tokenize_request

    with pytest.raises(InputError, match="another chat template"):
        tokenize_request(loaded[1], replace(facts("chat")[0], chat_template="0" * 64))


def test_a_run_takes_joint_and_template_from_its_file(model: Path, tmp_path: Path, capsys: Any) -> None:
    config = {
        "model": str(model), "facts": str(_file(tmp_path, "chat", 2)), "method": "lora", "batch_size": 2, "out": "out",
        "settings": {"layers": [0, 1, 2], "learning_rate": 0.02}, "chat_template": True,
        "evals": {"generation": False, "drift": False},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(json.dumps(config), "utf-8")
    assert run(["run", str(tmp_path / "run.yaml")]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary["steps"][-1]["EM"] == 100
    assert run(["run", str(tmp_path / "run.yaml"), "--resume"]) == 0
    (tmp_path / "run.yaml").write_text(json.dumps({**config, "join": "spaces"}), "utf-8")
    assert run(["run", str(tmp_path / "run.yaml")]) == 2
    assert "join must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "names", "right"),
    [
        ("首都是哈姆城，很大", ["哈姆城"], True),
        ("ハルムです", ["ハルム"], True),
        ("the Halmer", ["Halm"], False),
        ("in Halm now", ["Halm"], True),
    ],
)
def test_answers_without_spaces_between_words_hold_a_name_anywhere(said: str, names: list[str], right: bool) -> None:
    from evals.answers.answers import answer_of, contained

    assert contained(said, names) == right
    assert answer_of("哈姆城。它很大。") == "哈姆城"
