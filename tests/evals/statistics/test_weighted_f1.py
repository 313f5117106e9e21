"""Weighted F1 of classifications: scikit-learn's number, told beside a task's own metrics and never stored as one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from evals.gates import check_gates, parse_gates
from evals.statistics.changes import paired_change, task_changes
from evals.statistics.outcomes import TaskResult
from tests.evals.statistics.test_statistics import outcomes, two_models


def weighted(gold: Any, predictions: Any) -> float:
    return float(f1_score(gold, predictions, average="weighted", zero_division=0))


def result(gold: Any, predictions: Any, labels: int | None = 2) -> TaskResult:
    return TaskResult("sst2", {"acc": accuracy_score(gold, predictions)}, tuple(outcomes(gold, predictions)),
                      labels=labels)  # fmt: skip


@pytest.mark.parametrize("labels", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_it_equals_scikit_learns(labels: int, seed: int) -> None:
    gold, before, after = two_models(np.random.default_rng(seed), 60, 0.5, labels=labels)
    change = paired_change("f1_weighted", outcomes(gold, before), outcomes(gold, after))
    assert change.baseline == pytest.approx(weighted(gold, before), abs=1e-12)
    assert change.value == pytest.approx(weighted(gold, after), abs=1e-12)
    assert result(gold, after, labels).told["f1_weighted"] == pytest.approx(weighted(gold, after), abs=1e-12)


@pytest.mark.parametrize(("gold", "predictions"), [([0, 0, 1, 0], [0, 0, 0, 0]), ([2, 2, 2], [0, 1, 2]), ([1], [0])])
def test_labels_that_are_never_right_or_never_asked_for_count_as_scikit_learn_has_it(
    gold: Any, predictions: Any
) -> None:
    assert result(gold, predictions, 4).told["f1_weighted"] == pytest.approx(weighted(gold, predictions), abs=1e-12)


def test_a_step_has_it_with_its_paired_change_and_interval() -> None:
    gold, before, after = two_models(np.random.default_rng(3), 200, 0.5)
    entry = task_changes(result(gold, after), result(gold, before), previous=result(gold, gold))
    assert entry["metric"] == "acc"
    assert entry["f1_weighted"] == pytest.approx(weighted(gold, after))
    assert entry["f1_weighted_change"] == pytest.approx(weighted(gold, after) - weighted(gold, before))
    assert entry["f1_weighted_ci_low"] < entry["f1_weighted_change"] < entry["f1_weighted_ci_high"]
    assert 0 <= entry["f1_weighted_p_value"] <= 1
    assert entry["f1_weighted_previous_change"] == pytest.approx(weighted(gold, after) - 1)


def test_a_tasks_own_metrics_and_what_is_stored_of_them_stay_as_they_are() -> None:
    gold, before, _ = two_models(np.random.default_rng(3), 20, 0.5)
    found = result(gold, before)
    assert (list(found.metrics), found.main_metric) == (["acc"], "acc")
    assert set(found.to_dict()) == {"acc", "documents", "outcomes", "about"}
    again = TaskResult.from_dict("sst2", json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.told == found.told


def test_results_of_older_versions_are_read_and_compared_with_new_ones() -> None:
    gold, before, after = two_models(np.random.default_rng(3), 50, 0.5)
    stored = result(gold, before).to_dict()
    del stored["about"]["labels"]
    old = TaskResult.from_dict("sst2", stored)
    assert old.told == old.metrics
    entry = task_changes(result(gold, after), old)
    assert entry["f1_weighted_change"] == pytest.approx(weighted(gold, after) - weighted(gold, before))
    assert "f1_weighted" not in task_changes(old, old)


def test_a_task_whose_own_metric_it_is_keeps_that_one() -> None:
    found = TaskResult("own", {"f1_weighted": 0.25}, tuple(outcomes([0, 1], [0, 1])), labels=2)
    assert found.told == {"f1_weighted": 0.25}


@pytest.mark.parametrize(("after", "tripped"), [(0.0, False), (0.04, False), (0.2, True)])
def test_a_gate_limits_its_fall(after: float, tripped: bool) -> None:
    step = {"tasks": {"sst2": {"metric": "acc", "acc": 0.9, "f1_weighted": 0.9 - after, "f1_weighted_change": -after}}}
    (gate,) = check_gates(parse_gates(["sst2.f1_weighted: max_drop 0.05"]), step, {"sst2": {"f1_weighted": 0.9}})
    assert gate.tripped is tripped
