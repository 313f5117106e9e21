"""A task whose score of the unedited model chance explains is told apart from one that has room to fall."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from evals.statistics.chance import chance_of, unedited_row, warn_of_chance
from evals.statistics.outcomes import Outcome, TaskResult
from tests.evals.statistics.test_statistics import outcomes


def task(metric: str, gold: Any, predictions: Any, labels: int | None = 2) -> TaskResult:
    value = {"acc": lambda: float(np.mean(np.array(gold) == predictions)),
             "mcc": lambda: matthews_corrcoef(gold, predictions)}[metric]()  # fmt: skip
    return TaskResult("task", {metric: float(value)}, tuple(outcomes(gold, predictions)), labels=labels)


def coin(seed: int, documents: int = 200) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    return random.integers(0, 2, documents), random.integers(0, 2, documents)


def good(documents: int = 200, wrong: int = 30) -> tuple[Any, Any]:
    gold = np.arange(documents) % 2
    return gold, np.where(np.arange(documents) < wrong, 1 - gold, gold)


@pytest.mark.parametrize("metric", ["acc", "mcc"])
def test_a_model_that_tosses_coins_is_told_and_a_good_one_is_not(metric: str) -> None:
    missed = 0
    for seed in range(40):
        chance = chance_of(task(metric, *coin(seed)))
        assert chance is not None
        missed += chance.told
        assert chance.low <= chance.value <= chance.high
    assert missed <= 3  # at 95 %, on one side
    chance = chance_of(task(metric, *good()))
    assert chance is not None
    assert chance.told
    assert "is above chance" in str(chance)


def test_always_the_commonest_label_is_chance_however_often_it_is_right() -> None:
    gold = [1] * 180 + [0] * 20
    for metric, expected in (("acc", 0.9), ("mcc", 0.0)):
        chance = chance_of(task(metric, gold, [1] * 200))
        assert chance is not None
        assert (chance.chance, chance.told) == (expected, False)
        assert "cannot be told from chance" in str(chance)
        assert "num_fewshot" in str(chance)


def test_a_model_below_chance_is_told_as_such() -> None:
    gold, predictions = good()
    chance = chance_of(task("acc", gold, 1 - predictions))
    assert chance is not None
    assert not chance.told
    assert "is below chance" in str(chance)


def choices(counts: list[int], right: float) -> TaskResult:
    """A task whose documents have so many choices each, a share of them answered rightly."""
    found = tuple(
        Outcome(i, f"h{i}", 0, 0 if i < right * len(counts) else 1, i < right * len(counts), (0.0,) * number)
        for i, number in enumerate(counts)
    )
    return TaskResult("task", {"acc": right}, found)


def test_where_choices_differ_chance_is_one_in_as_many_as_a_document_has() -> None:
    for right, told in ((0.35, False), (0.6, True)):
        chance = chance_of(choices([2, 4] * 50, right))
        assert chance is not None
        assert chance.chance == pytest.approx((1 / 2 + 1 / 4) / 2)
        assert chance.told is told


def test_tasks_without_right_choices_have_no_chance() -> None:
    text = TaskResult("task", {"exact_match": 0.5}, (Outcome(0, "h", text="golf"),))
    other = TaskResult("task", {"f1": 0.5}, tuple(outcomes([0, 1], [0, 1])), labels=2)
    assert chance_of(text) is chance_of(other) is None
    assert unedited_row(text) == {"exact_match": 0.5}


def test_the_unedited_models_row_has_its_numbers_and_chance() -> None:
    row = unedited_row(task("acc", *good()))
    assert set(row) == {"acc", "f1_weighted", "chance"}
    assert row["chance"]["told"] is True
    assert set(row["chance"]) == {"metric", "value", "low", "high", "chance", "documents", "told"}


def test_one_line_names_each_task_at_chance(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_chance([task("acc", *good()), task("mcc", *coin(1))])
    (line,) = [record.getMessage() for record in caplog.records]
    assert "'task'" in line
    assert "mcc" in line
