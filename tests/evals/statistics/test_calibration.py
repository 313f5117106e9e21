"""Tests reject as often, and intervals cover as often, as they claim: on the outcomes of real runs.

tests/data/outcomes/README.md says which runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.scores.intervals import score_intervals
from evals.scores.scores import PromptScore, RecordScore, Scores
from evals.statistics.changes import Change, paired_change
from evals.statistics.outcomes import Outcome

DRAWS = 1000
OUTCOMES = Path(__file__).parents[2] / "data" / "outcomes" / "outcomes.json"

Case = tuple[Any, Any, Any]


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    return json.loads(OUTCOMES.read_text())["demo-gpt2"]


def case(real: dict[str, Any], task: str, state: int) -> Case:
    """Gold labels, and the predictions of the unedited model and after so many batches."""
    found = real["tasks"][task]
    rows = (found["gold"], found["states"][0], found["states"][state])
    gold, before, after = (np.array(list(row), dtype=int) for row in rows)
    return gold, before, after


def change(metric: str, gold: Any, before: Any, after: Any, resamples: int) -> Change:
    sides = [
        [Outcome(i, "", g, p, g == p) for i, (g, p) in enumerate(zip(gold.tolist(), side.tolist(), strict=True))]
        for side in (before, after)
    ]
    return paired_change(metric, *sides, resamples=resamples)


def rejections(metric: str, documents: Case, draws: int) -> float:
    """How often the test rejects at 5 % when a coin hands out each document's two answers."""
    gold, before, after = documents
    rejected = 0
    for seed in range(draws):
        coin = np.random.default_rng(seed).random(len(gold)) < 0.5
        # One resample: the p-value comes from enumeration, the interval is not asked for.
        found = change(metric, gold, np.where(coin, after, before), np.where(coin, before, after), 1)
        rejected += found.p_value <= 0.05
    return rejected / draws


def coverage(metric: str, documents: Case, draws: int) -> float:
    """How often the 95 % interval from a data set drawn with replacement holds the change on all documents."""
    truth = change(metric, *documents, 1).change
    covered = 0
    for seed in range(draws):
        drawn = np.random.default_rng(seed).integers(0, len(documents[0]), len(documents[0]))
        found = change(metric, *(row[drawn] for row in documents), 1000)
        covered += found.ci_low - 1e-12 <= truth <= found.ci_high + 1e-12
    return covered / draws


@pytest.mark.parametrize("metric", ["acc", "mcc"])
def test_no_true_difference_is_rejected_in_three_to_seven_percent(real: dict[str, Any], metric: str) -> None:
    assert 0.03 <= rejections(metric, case(real, "cola", 5), DRAWS) <= 0.07


@pytest.mark.parametrize("metric", ["acc", "mcc"])
def test_intervals_cover_the_true_change_in_92_to_98_percent(real: dict[str, Any], metric: str) -> None:
    assert 0.92 <= coverage(metric, case(real, "cola", 5), DRAWS) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["acc", "mcc", "f1"])
@pytest.mark.parametrize(
    ("task", "state"), [("cola", 6), ("cola", 8), ("mrpc", 6), ("mrpc", 8), ("rte", 6), ("rte", 8)]
)
def test_calibrated_on_every_task(real: dict[str, Any], task: str, state: int, metric: str) -> None:
    documents = case(real, task, state)
    assert 0.03 <= rejections(metric, documents, DRAWS) <= 0.07
    assert 0.92 <= coverage(metric, documents, DRAWS) <= 0.98


def real_records(real: dict[str, Any]) -> list[RecordScore]:
    def prompts(newer: list[int]) -> tuple[PromptScore, ...]:
        return tuple(PromptScore("", 1.0 - flag, 0.5, None) for flag in newer)

    return [
        RecordScore(None, *(prompts(record[group]) for group in ("rewrite", "paraphrase", "neighborhood")))
        for batch in real["batches"]
        for record in batch
    ]


@pytest.mark.parametrize("size", [16, 64])
def test_score_intervals_cover_the_scores_of_real_records(real: dict[str, Any], size: int) -> None:
    records = real_records(real)
    truth = Scores(tuple(records))
    covered = dict.fromkeys(("PS", "NS", "S"), 0)
    for seed in range(500):
        drawn = np.random.default_rng(seed).integers(0, len(records), size)
        intervals = score_intervals(Scores(tuple(records[i] for i in drawn)))
        for metric in covered:
            interval, value = intervals[metric], truth[metric]
            assert interval is not None
            assert value is not None
            covered[metric] += interval[0] <= value <= interval[1]
    for metric, count in covered.items():
        assert 0.9 <= count / 500 <= 0.99, metric
