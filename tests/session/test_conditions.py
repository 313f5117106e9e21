"""What a ledger keeps of how its numbers were measured: other conditions give no number of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ledger import Ledger
from seqedit.adapters.adapter import BaseModel
from seqedit.errors import InputError
from seqedit.moments.store import cache_folder
from seqedit.scoring import conditions
from seqedit.scoring.conditions import keep_conditions
from seqedit.text.identity import tokenizer_digest
from seqedit.text.plain_text import TextSource

VOCABULARY = {"<s>": 0, "a": 1, "b": 2, "ab": 3, "A": 4}


def tokenizer(*, merges: bool = True, lower: bool = False, split: bool = False, special: bool = True):
    backend = Tokenizer(models.BPE(dict(VOCABULARY), [("a", "b")] if merges else []))
    if lower:
        backend.normalizer = normalizers.Lowercase()
    if split:
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        backend.add_special_tokens([AddedToken("<s>")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<s>" if special else None)


CHANGES = {"merges": {"merges": False}, "normalizer": {"lower": True}, "words": {"split": True},
           "end": {"special": False}}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_tokenizer_of_the_same_vocabulary_that_is_applied_otherwise_is_another(change: str) -> None:
    other = tokenizer(**CHANGES[change])
    assert tokenizer().get_vocab() == other.get_vocab()
    assert tokenizer_digest(tokenizer()) != tokenizer_digest(other)


def test_padding_and_truncation_do_not_make_another_tokenizer() -> None:
    one = tokenizer()
    before = tokenizer_digest(one)
    one.backend_tokenizer.enable_truncation(3)
    one.backend_tokenizer.enable_padding()
    assert tokenizer_digest(one) == before == tokenizer_digest(tokenizer())


@pytest.mark.parametrize("change", ["tokenizer", "model", "text", "tokens", "length", "measure"])
def test_cached_second_moments_miss_when_one_thing_they_depend_on_changes_and_hit_otherwise(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "t.txt"
    text.write_text("a b\n")

    def place(**given: object) -> Path:
        known = {"tokenizer": tokenizer(), "fingerprint": "f", "source": TextSource(str(text)), "max_tokens": 9,
                 "sequence_length": 3, "cache_dir": tmp_path}  # fmt: skip
        return cache_folder(**{**known, **given})

    before = place()
    (tmp_path / "copy.txt").write_text("a b\n")
    assert place(source=TextSource(str(tmp_path / "copy.txt"))) == before, "the same text by another name"
    other = {"tokenizer": {"tokenizer": tokenizer(merges=False)}, "model": {"fingerprint": "g"},
             "tokens": {"max_tokens": 8}, "length": {"sequence_length": 4}}  # fmt: skip
    if change == "text":
        text.write_text("b a\n")
    elif change == "measure":
        monkeypatch.setattr("seqedit.moments.store.MEASURE_VERSION", 2)
    assert place(**other.get(change, {})) != before


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger.create(tmp_path / "ledger", BaseModel("m", "f" * 64)) as made:
        yield made


def test_the_same_conditions_are_kept_in_silence(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        keep_conditions(ledger, tokenizer(), tasks=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("change", ["tokenizer", "measure", "lm-eval"])
def test_a_ledger_measured_under_other_conditions_is_refused_with_the_reason(
    change: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_conditions(ledger, tokenizer(), tasks=True)
    if change == "measure":
        monkeypatch.setattr(conditions, "MEASURE_VERSION", "2")
    elif change == "lm-eval":
        monkeypatch.setattr(conditions, "_lm_eval", lambda: "0.0.1")
    now = tokenizer(merges=change != "tokenizer")
    reason = {"tokenizer": "another tokenizer", "measure": "arithmetic", "lm-eval": "version of lm-eval"}[change]
    with pytest.raises(InputError, match=reason):
        keep_conditions(ledger, now, tasks=True)
    if change == "lm-eval":  # which only tasks depend on
        keep_conditions(ledger, now)


def test_scores_of_older_versions_which_do_not_say_how_they_were_measured_are_named(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.add_scores(ledger.root(), "fixed", {"nll:0": 1.0})
    keep_conditions(ledger, tokenizer())
    assert "do not say which tokenizer" in capsys.readouterr().err
    keep_conditions(ledger, tokenizer())
    assert capsys.readouterr().err == ""


def test_a_run_that_begins_in_a_new_ledger_is_told_nothing(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.add_scores(ledger.root(), "run", {"main": {"began": "2026-01-01T00:00:00Z"}})
    keep_conditions(ledger, tokenizer())
    assert capsys.readouterr().err == ""


def test_every_score_that_a_ledger_keeps_of_a_state_is_measured_under_its_conditions(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqedit.session import metrics

    keep_conditions(ledger, tokenizer(), tasks=True)
    edited = SimpleNamespace(model=None, tokenizer=tokenizer(lower=True))
    session = SimpleNamespace(ledger=ledger, edited=edited)
    found: list[metrics.StateMetric] = [
        metrics.FactMetric("ES", []),
        metrics.PerplexityMetric(["a"]),
        metrics.DivergenceMetric(["a"]),
        metrics.TaskMetric("t", None, SimpleNamespace(definitions={"t": "d"})),  # type: ignore[arg-type]
    ]
    made = {type(metric).__name__ for metric in found}
    assert made == {name for name in vars(metrics) if name.endswith("Metric") and name != "StateMetric"}
    for metric in found:
        with pytest.raises(InputError, match="another tokenizer"):
            metric.measure(session, ledger.root())  # type: ignore[arg-type]
