"""A number that is kept is used again only for the question that it answers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers
from transformers import AutoTokenizer

from evals.gates import parse_gates
from evals.likelihood.perplexity import score_perplexity
from seqedit.moments.store import cache_folder
from seqedit.scoring.evaluator import Evaluator
from seqedit.session.evaluate import evaluate_state, measure_baseline
from seqedit.text.identity import tokenizer_digest
from seqedit.text.plain_text import TextSource
from tests.conftest import REFERENCE
from tests.scoring.test_fact_baseline import RECORDS, SETTINGS, edit, loaded, session  # noqa: F401  (fixtures)


def lowered(tokenizer: Any) -> Any:
    """The same vocabulary, other tokens: texts are put into lower case first."""
    found = copy.deepcopy(tokenizer)
    found.backend_tokenizer.normalizer = normalizers.Lowercase()
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(REFERENCE / "model")


def test_a_tokenizer_is_known_by_what_it_does(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_digest(AutoTokenizer.from_pretrained(tmp_path)) == tokenizer_digest(tokenizer)
    assert tokenizer_digest(lowered(tokenizer)) != tokenizer_digest(tokenizer)
    assert lowered(tokenizer).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "other"}, {"max_tokens": 11}, {"sequence_length": 9}, {"tokenizer": lowered}, {"text": "other"},
        {"measure": 99},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_second_moments_are_kept_by_all_that_they_depend_on(
    change: dict[str, Any], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("some")

    def folder(
        tokenizer: Any = tokenizer, fingerprint: str = "one", max_tokens: int = 10, sequence_length: int = 8
    ) -> Path:
        return cache_folder(tokenizer, fingerprint, TextSource(str(text)), max_tokens, sequence_length, tmp_path)

    first = folder()
    assert folder() == first
    if "text" in change:  # the file keeps its name
        text.write_text(change.pop("text"))
    if "measure" in change:
        monkeypatch.setattr("seqedit.moments.store.MEASURE_VERSION", change.pop("measure"))
    if "tokenizer" in change:
        change["tokenizer"] = change["tokenizer"](tokenizer)
    assert folder(**change) != first


def baseline(session: Any, texts: list[str] | None = None) -> Evaluator:  # noqa: F811
    evaluator = Evaluator(session.edited.tokenizer, SETTINGS, texts=texts or [])
    measure_baseline(session, evaluator, RECORDS[:2])
    return evaluator


def test_a_gate_on_perplexity_compares_with_the_unedited_model_on_the_same_text(session: Any) -> None:  # noqa: F811
    easy, hard = ["the the the the the the the the"], ["Zq xv 93 ;; kjw qqq zx 0x7f"]
    baseline(session, easy)  # what a run has left
    edit(session, RECORDS[:2])
    gates = parse_gates(["drift.perplexity: max_rise 1000000"])
    found = evaluate_state(session, Evaluator(session.edited.tokenizer, SETTINGS, texts=hard), "HEAD", gates=gates)
    session.checkout(session.ledger.root())
    fresh = score_perplexity(session.edited.model, session.edited.tokenizer, hard).value
    session.checkout()
    assert found.gates[0].value == pytest.approx(found.step["drift"]["perplexity"] - fresh)
