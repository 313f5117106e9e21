"""zsRE accuracies, per token and exact: by hand, against the public code's way of counting, and on real records."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.likelihood.teacher_forcing import score_continuations
from evals.scores.counterfact import score_records, tokenize_records
from evals.scores.probes import MAIN_COLUMNS
from evals.scores.scores import METRICS
from evals.scores.zsre import score_zsre, zsre_scores
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Neighbor, Record, Request
from tests.conftest import REFERENCE


class Cycle(torch.nn.Module):
    """After token i it always predicts i + 1: every accuracy can be counted on one's fingers."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding.from_pretrained(torch.eye(vocabulary))
        self.head = torch.nn.Linear(vocabulary, vocabulary, bias=False)
        self.head.weight = torch.nn.Parameter(torch.eye(vocabulary).roll(1, 0), requires_grad=False)
        self.config = type("Config", (), {"vocab_size": vocabulary, "max_position_embeddings": 64})()
        self.device = torch.device("cpu")

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return type("Output", (), {"logits": self.head(self.embedding(input_ids))})()


@pytest.fixture(scope="module")
def letters() -> Any:
    """A tokenizer of one token per word: a0, a1, ..., a19 are 0, 1, ..., 19."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({f"a{i}": i for i in range(20)}, unk_token="a0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_counted_by_hand(letters: Any) -> None:
    record = Record(
        Request("a5", "a9 {}", "a6 a7 a1 a9"),  # after a5: a6 yes, a7 yes, a1 no (a8 is), a9 no (a2 is)
        ("a5", "a3"),  # 2 of 4 as above; after a3: a6 no, a7 yes, a1 no, a9 no
        (Neighbor("a1", "a2 a3"), Neighbor("a1", "a9 a10 a2 a2")),  # all; then no, yes, no, no
    )
    other = Record(Request("a5", "{}", "a6"), ("a2",), ())  # right; wrong; no question
    scores = score_records(Cycle(20), letters, [record, other])
    first = scores.records[0]
    assert [p.argmax_share for p in (*first.rewrite, *first.paraphrase, *first.neighborhood)] == [
        0.5, 0.5, 0.25, 1.0, 0.25,
    ]  # fmt: skip
    found = zsre_scores(scores)
    assert (found.efficacy.per_token, found.efficacy.exact) == (75.0, 50.0)
    assert (found.paraphrase.per_token, found.paraphrase.exact) == (100 * (0.375 + 0) / 2, 0.0)
    assert (found.specificity.per_token, found.specificity.exact) == (62.5, 50.0)
    assert (scores["ET"], scores["PT"], scores["NT"]) == (75.0, 18.75, 62.5)


def test_per_token_is_never_below_exact_and_the_same_for_answers_of_one_token(letters: Any) -> None:
    one = Record(Request("a5", "{}", "a6", "a7"), ("a1",), (Neighbor("a1", "a2"),))
    scores = score_records(Cycle(20), letters, [one])
    assert [scores[m] for m in ("ET", "PT", "NT")] == [scores[m] for m in ("EM", "PM", "NM")] == [100, 0, 100]


def test_shares_count_tokens_after_the_right_ones(model: Any) -> None:
    with torch.no_grad():
        best = int(model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
        wrong = (best + 1) % 2048
        after_wrong = int(model(torch.tensor([[5, 6, 7, wrong]])).logits[0, -1].argmax())
    half, none = score_continuations(model, [([5, 6, 7], [wrong, after_wrong]), ([5, 6, 7], [wrong])])
    assert (half.correct, half.tokens, half.argmax, half.argmax_share) == (1, 2, False, 0.5)
    assert none.argmax_share == 0.0


def published_way(model: Any, tokenizer: Any, prompt: str, target: str) -> list[bool]:
    """Counted as ROME's and MEMIT's `eval_utils_zsre.py` do: one forward pass per token of " " + target."""
    ids = tokenizer(" " + target, add_special_tokens=False)["input_ids"]
    correct = []
    for i, wanted in enumerate(ids):
        text = prompt + tokenizer.decode(ids[:i])
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
        correct.append(int(logits.argmax()) == wanted)
    return correct


def zsre_rows(facts: list[Record]) -> list[dict[str, Any]]:
    """zsRE rows (MEND layout) about things the reference model was trained on, so that some tokens are right."""
    rows = []
    for record, following in pairwise(facts):
        request, near = record.request, following.neighborhood_prompts[0]
        rows.append(
            {
                "subject": request.subject, "src": request.text, "alt": f"{request.target_true} {request.target_new}",
                "rephrase": record.paraphrase_prompts[0], "answers": [request.target_true], "pred": "x",
                "loc": near.prompt, "loc_ans": f"{following.request.target_true} and", "cond": "",
            }
        )  # fmt: skip
    return rows


def test_agrees_with_the_public_codes_counting(
    model: Any, tokenizer: Any, records: list[Record], tmp_path: Path
) -> None:
    (tmp_path / "z.json").write_text(json.dumps(zsre_rows(records)))
    facts = load_records(tmp_path / "z.json")
    scores = score_records(model, tokenizer, facts)
    sums: dict[str, list[float]] = {"ET": [], "PT": [], "NT": []}
    for fact in facts:
        (near,) = fact.neighborhood_prompts
        for name, prompt, target in (
            ("ET", fact.request.text, fact.request.target_new),
            ("PT", fact.paraphrase_prompts[0], fact.request.target_new),
            ("NT", near.prompt, near.target_true or ""),
        ):
            correct = published_way(model, tokenizer, prompt, target)
            sums[name].append(sum(correct) / len(correct))
    for name, shares in sums.items():
        assert scores[name] == pytest.approx(100 * sum(shares) / len(shares))
    assert 0 < (scores["ET"] or 0) < 100  # neither trivially right nor trivially wrong


def test_a_bos_is_no_token_of_an_answer(llama: tuple[Any, Any], records: list[Record], tmp_path: Path) -> None:
    model, tokenizer = llama
    (tmp_path / "z.json").write_text(json.dumps(zsre_rows(records)))
    facts = load_records(tmp_path / "z.json")
    bare = [len(tokenizer(" " + f.request.target_new, add_special_tokens=False)["input_ids"]) for f in facts]
    for tokens, length in zip(tokenize_records(tokenizer, facts), bare, strict=True):
        for prompt in (*tokens.rewrite, *tokens.paraphrase):
            assert len(prompt.new[1]) == length
            assert tokenizer.bos_token_id not in prompt.new[1]
        for prompt in tokens.neighborhood:
            assert prompt.true is not None
            assert tokenizer.bos_token_id not in prompt.true[1]
    found = score_zsre(model, tokenizer, facts).to_dict()
    assert all(0 <= found[name]["exact"] <= found[name]["per_token"] <= 100 for name in found)


def test_nothing_to_tell_is_none(letters: Any) -> None:
    scores = score_records(Cycle(20), letters, [Record(Request("a5", "{}", "a6"))])
    found = zsre_scores(scores)
    assert found.efficacy.per_token == 100.0
    assert (found.paraphrase.per_token, found.specificity.exact) == (None, None)


def test_memit_convention_teaches_the_right_answer_and_asks_with_a_question_mark(tmp_path: Path) -> None:
    row = {
        "subject": "UniFirst", "src": "What is made by UniFirst?", "pred": "cloth", "rephrase": "UniFirst makes?",
        "alt": "aircraft", "answers": ["uniforms"], "loc": "nq question: who", "loc_ans": "Walter", "cond": "",
    }  # fmt: skip
    (tmp_path / "z.json").write_text(json.dumps([row]))
    (mend,), (memit,) = (load_records(tmp_path / "z.json", zsre=z) for z in ("mend", "memit"))
    assert (mend.request.target_new, mend.request.target_true) == ("aircraft", "uniforms")
    assert mend.neighborhood_prompts == (Neighbor("nq question: who", "Walter"),)
    assert (memit.request.target_new, memit.request.target_true) == ("uniforms", None)
    assert memit.neighborhood_prompts == (Neighbor("nq question: who?", "Walter"),)
    with pytest.raises(ValueError, match=r"unknown zsRE convention 'rome'; known: mend, memit"):
        load_records(tmp_path / "z.json", zsre="rome")


def test_real_records_give_plausible_figures(model: Any, tokenizer: Any, shared_data: Path) -> None:
    facts = load_records(shared_data / "zsre_500.json", limit=40)
    scores = score_records(model, tokenizer, facts)
    assert all(scores[metric] is not None for metric in METRICS)
    # The model knows none of it, yet some tokens inside a word follow from those before.
    assert (scores["EM"] or 0) < 10
    assert (scores["ET"] or 0) >= (scores["EM"] or 0)
    assert (scores["NT"] or 0) >= (scores["NM"] or 0)


def test_score_command_prints_them(tmp_path: Path, records: list[Record], capsys: Any) -> None:
    from seqedit.cli.main import run

    (tmp_path / "z.json").write_text(json.dumps(zsre_rows(records)[:2]))
    arguments = ["score", "--model", str(REFERENCE / "model"), "--records", str(tmp_path / "z.json")]
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = {"ES", "PS", "NS", "S", "EM", "PM", "NM", "ET", "PT", "NT"}
    assert {*scores, *MAIN_COLUMNS, "missing", "intervals", "records"} == set(found)
    assert 0 <= found["records"][0]["neighborhood"][0]["argmax_share"] <= 1
    assert run([*arguments, "--zsre", "memit"]) == 0
    out = capsys.readouterr().out
    assert " ET " in out
    assert "2 records" in out
    assert run([*arguments, "--zsre", "rome"]) == 2


def test_a_runs_steps_hold_them(model: Any, tokenizer: Any, records: list[Record]) -> None:
    from seqedit.scoring.evaluator import SUMMARY_METRICS, Batch, Evaluator
    from seqedit.scoring.settings import EvalSettings

    evaluator = Evaluator(tokenizer, EvalSettings(counterfact=True, generation=False))
    found = evaluator.step(model, [Batch("a", records[:4], [0, 2]), Batch("b", records[4:], [0])], None)
    assert {"ET", "PT", "NT", "EM", "PM", "NM"} <= set(SUMMARY_METRICS)
    assert found.earlier is not None
    for scores in (found.new, found.earlier, found.by_entry["a"]):
        assert all(0 <= scores[f"{group}M"] <= scores[f"{group}T"] <= 100 for group in "EPN")
