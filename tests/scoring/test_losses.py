"""Lost facts: which, at which step, and to whom; and the nearest keys of every step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evals.scores.scores import PromptScore, RecordScore, Scores
from ledger import Ledger
from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.delta import LowRank
from seqedit.facts.requests import Request
from seqedit.scoring import losses
from seqedit.scoring.evaluator import _answered
from seqedit.scoring.kinds import KIND_FORGETTING, KIND_RECORDS
from seqedit.scoring.losses import tell_losses
from seqedit.scoring.summary import build_summary
from seqedit.scoring.summary_types import RunSummary

BASE = BaseModel("tiny", "0" * 64)
KEYS = {1: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], 2: [[0.6, 0.8, 0.0]], 3: [[0.0, 0.0, 1.0], [0.0, 2.0, 0.1]]}


def batch(step: int) -> Adapter:
    rows = KEYS[step]
    requests = tuple(Request(f"{step}.{n}", "{} is", f"{step}.{n} new", "old") for n in range(len(rows)))
    deltas = {"m": LowRank(torch.full((2, 1), float(step)), torch.ones(1, 3))}
    return Adapter(deltas, requests, {"name": "memit"}, BASE, keys={"m": torch.tensor(rows)})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Three batches; the second fact of the first is gone from step 2 on, the fact of the second comes back."""
    with Ledger.create(tmp_path / "ledger", BASE) as opened:
        entries = [opened.append(batch(step)) for step in KEYS]
        answered: list[dict[int, tuple[list[int], list[int]]]] = [
            {0: ([0, 1], [])},
            {0: ([0], [1]), 1: ([], [0])},
            {0: ([0], [1]), 1: ([0], []), 2: ([0, 1], [])},
        ]
        for entry, rows in zip(entries, answered, strict=True):
            found = {entries[i].id: {"ES": 100.0, "answered": a, "missed": m} for i, (a, m) in rows.items()}
            opened.add_scores(entry.id, KIND_FORGETTING, found)
            right = [{"rewrite": [{"nll_new": 0.1, "nll_true": 2.0, "argmax_correct": True}]} for _ in entry.requests]
            opened.add_scores(entry.id, KIND_RECORDS, {"records": right})
        yield opened


def told(ledger: Ledger) -> RunSummary:
    return tell_losses(ledger, "HEAD", build_summary(ledger))


def test_a_lost_fact_names_its_step_and_the_request_with_the_nearest_key(ledger: Ledger) -> None:
    summary = told(ledger)
    lost = [fact for step in summary["steps"] for fact in step["facts"] if "lost_at" in fact]
    [fact] = lost
    assert (fact["subject"], fact["lost_at"]) == ("1.1", 2)
    assert fact["lost_to"] == {
        "step": 2, "cosine": pytest.approx(0.8), "subject": "2.0", "prompt": "2.0 is", "target_new": "2.0 new",
    }  # fmt: skip
    assert summary["losses"] == {"known": True, "keys": None}


def test_the_nearest_keys_of_a_step_are_those_of_a_new_fact_and_one_in_force(ledger: Ledger) -> None:
    first, second, third = told(ledger)["steps"]
    assert "interference" not in first
    assert second["interference"]["earlier"]["subject"] == "1.1"
    nearest = third["interference"]
    assert (nearest["new"]["subject"], nearest["earlier"]["subject"], nearest["step"]) == ("3.1", "1.1", 1)
    assert nearest["cosine"] == pytest.approx(2 / (4 + 0.01) ** 0.5, abs=1e-4)
    assert (nearest["near"], nearest["compared"]) == (1, 3)


def test_a_fact_that_was_taken_out_is_not_lost_and_its_key_is_not_in_danger(ledger: Ledger) -> None:
    first = ledger.log()[::-1][1]
    ledger.revert(first.id)
    summary = told(ledger)
    assert not [fact for step in summary["steps"] for fact in step["facts"] if "lost_at" in fact]


def test_a_ledger_without_answers_of_earlier_facts_says_so(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "old", BASE) as opened:
        for step in (1, 2):
            opened.append(batch(step))
        summary = told(opened)
    assert summary["losses"]["known"] is False


def test_keys_that_cannot_be_read_are_named_and_what_was_lost_is_told_all_the_same(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqedit.errors import CheckFailed

    def missing(self: Ledger, which: object) -> None:
        raise CheckFailed("object abc is missing; run verify")

    monkeypatch.setattr(Ledger, "adapter", missing)
    summary = told(ledger)
    assert "object abc is missing" in summary["losses"]["keys"]
    [fact] = [fact for step in summary["steps"] for fact in step["facts"] if "lost_at" in fact]
    assert fact["lost_to"] is None


def test_of_many_facts_only_lost_ones_are_compared(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "MOST_COMPARED", 2)
    summary = told(ledger)
    assert "more than 2 facts" in summary["losses"]["keys"]
    assert not [step for step in summary["steps"] if "interference" in step]
    assert summary["steps"][0]["facts"][1]["lost_to"]["cosine"] == pytest.approx(0.8)  # type: ignore[index]


def test_answers_are_kept_by_the_facts_places_among_the_entrys_requests() -> None:
    def record(right: bool) -> RecordScore:
        return RecordScore(None, (PromptScore("p", 0.1, 2.0, right),), (), ())

    scores = Scores((record(True), record(False), record(True)))
    assert _answered(scores, [0, 3, 4]) == {"answered": [0, 4], "missed": [3]}
