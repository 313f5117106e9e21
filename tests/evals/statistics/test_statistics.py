"""Paired changes and score intervals: right by hand, and right as often as they claim."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import f1_score, matthews_corrcoef

from evals.scores.intervals import score_intervals
from evals.scores.scores import PromptScore, RecordScore, Scores
from evals.statistics.changes import paired_change, task_changes
from evals.statistics.exchange import exchange_p_value, mcnemar
from evals.statistics.outcomes import Outcome, TaskResult
from evals.statistics.pairing import pair_outcomes
from evals.statistics.stratified import wilson
from seqedit.errors import InputError


def outcomes(gold: Any, predictions: Any) -> list[Outcome]:
    return [
        Outcome(i, f"h{i}", int(g), int(p), bool(g == p))
        for i, (g, p) in enumerate(zip(gold, predictions, strict=True))
    ]


def two_models(
    rng: np.random.Generator, n: int, redrawn: float, accuracy: float = 0.75, labels: int = 2
) -> tuple[Any, Any, Any]:
    """Gold labels and two predictors of one accuracy that agree but for a redrawn share."""
    gold = rng.integers(0, labels, n)

    def predictor() -> Any:
        wrong = (gold + rng.integers(1, labels, n)) % labels
        return np.where(rng.random(n) < accuracy, gold, wrong)

    first = predictor()
    return gold, first, np.where(rng.random(n) < redrawn, predictor(), first)


@pytest.mark.parametrize("labels", [2, 3])
def test_values_equal_scikit_learns(labels: int) -> None:
    gold, before, after = two_models(np.random.default_rng(0), 300, 0.5, labels=labels)
    change = paired_change("mcc", outcomes(gold, before), outcomes(gold, after))
    assert change.baseline == pytest.approx(matthews_corrcoef(gold, before))
    assert change.value == pytest.approx(matthews_corrcoef(gold, after))
    assert change.change == pytest.approx(change.value - change.baseline)
    accuracy = paired_change("acc", outcomes(gold, before), outcomes(gold, after))
    assert accuracy.value == pytest.approx(float((gold == after).mean()))
    if labels == 2:
        f1 = paired_change("f1", outcomes(gold, before), outcomes(gold, after))
        assert f1.value == pytest.approx(f1_score(gold, after))


@pytest.mark.parametrize("metric", ["mcc", "f1"])
def test_constant_predictions_are_zero_not_nan(metric: str) -> None:
    gold = [0, 1, 0, 1]
    change = paired_change(metric, outcomes(gold, gold), outcomes(gold, [0, 0, 0, 0]))
    assert (change.value, change.change) == (0.0, -1.0)


@pytest.mark.parametrize(("metric", "redrawn"), [("acc", 0.3), ("mcc", 0.3), ("f1", 0.3), ("mcc", 0.08)])
def test_interval_covers_no_difference_as_often_as_it_claims(metric: str, redrawn: float) -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for seed in range(400):
        gold, before, after = two_models(rng, 200, redrawn)
        change = paired_change(metric, outcomes(gold, before), outcomes(gold, after), seed=seed, resamples=1000)
        covered += change.ci_low <= 0 <= change.ci_high
    assert 0.92 <= covered / 400 <= 0.98


def test_real_damage_is_found() -> None:
    rng = np.random.default_rng(5)
    gold, before, _ = two_models(rng, 400, 0)
    after = np.where(rng.random(400) < 0.2, 1 - before, before)
    change = paired_change("acc", outcomes(gold, before), outcomes(gold, after))
    assert change.ci_high < 0
    assert change.p_value < 0.01


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(2)
    gold, before, near = two_models(rng, 400, 0.05)
    _, _, far = two_models(rng, 400, 1.0)
    far = np.where(far == 0, gold, 1 - gold)
    widths = []
    for after in (near, far):
        change = paired_change("acc", outcomes(gold, before), outcomes(gold, after))
        widths.append(change.ci_high - change.ci_low)
    assert widths[0] < widths[1] / 2


def test_no_changed_document_is_no_change() -> None:
    gold, before, _ = two_models(np.random.default_rng(1), 100, 0)
    change = paired_change("mcc", outcomes(gold, before), outcomes(gold, before))
    assert (change.change, change.ci_low, change.ci_high, change.p_value) == (0, 0, 0, 1.0)


def test_seeded_and_independent_of_the_documents_order() -> None:
    gold, before, after = two_models(np.random.default_rng(3), 200, 0.4)
    a, b = outcomes(gold, before), outcomes(gold, after)
    first = paired_change("mcc", a, b, seed=1)
    assert paired_change("mcc", list(reversed(a)), b, seed=1) == first
    assert paired_change("mcc", a, b, seed=2).ci_low != first.ci_low


def test_ten_thousand_resamples_cost_milliseconds() -> None:
    gold, before, after = two_models(np.random.default_rng(4), 1000, 0.3)
    a, b = outcomes(gold, before), outcomes(gold, after)
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        paired_change("mcc", a, b)
        best = min(best, time.perf_counter() - start)
    assert best < 0.2


def test_other_documents_are_refused() -> None:
    a = outcomes([0, 1, 1], [0, 1, 1])
    with pytest.raises(InputError, match="same documents"):
        paired_change("acc", a, a[:2])
    moved = [Outcome(o.doc_id, "other", o.gold, o.prediction, o.correct) for o in a]
    with pytest.raises(InputError, match="0 in common"):
        paired_change("acc", a, moved)
    with pytest.raises(InputError, match="same documents"):
        paired_change("acc", [], [])


def test_unknown_metric_is_refused_and_a_noted_one_is_averaged() -> None:
    a = [Outcome(i, "", values={"bleu": 0.5}) for i in range(10)]
    b = [Outcome(i, "", values={"bleu": 0.25 + 0.05 * (i % 2)}) for i in range(10)]
    change = paired_change("bleu", a, b)
    assert change.change == pytest.approx(-0.225)
    assert change.ci_low <= change.change <= change.ci_high < 0
    # Ten losses of ten, five of them smaller: only the reverse of all is as large.
    assert change.p_value == pytest.approx(0.5**10)
    with pytest.raises(InputError, match="rouge"):
        paired_change("rouge", a, b)


def test_mcnemar_by_hand() -> None:
    gold = [1] * 10
    lost_five = [0] * 5 + [1] * 5
    assert mcnemar(outcomes(gold, gold), outcomes(gold, lost_five)) == pytest.approx(2 * 0.5**5)
    assert mcnemar(outcomes(gold, gold), outcomes(gold, lost_five), mid_p=True) == pytest.approx(0.5**5)
    one_each = mcnemar(outcomes(gold, [0] + [1] * 9), outcomes(gold, [1, 0] + [1] * 8), mid_p=True)
    assert one_each == pytest.approx(1 - 0.5 / 2)


@pytest.mark.parametrize("labels", [2, 3])
def test_exchange_test_of_accuracy_is_mcnemars(labels: int) -> None:
    rng = np.random.default_rng(8)
    for redrawn in (0.05, 0.2, 0.5):
        gold, before, after = two_models(rng, 120, redrawn, labels=labels)
        a, b = outcomes(gold, before), outcomes(gold, after)
        pairs = pair_outcomes("acc", a, b)
        assert exchange_p_value(pairs) == pytest.approx(mcnemar(a, b, mid_p=True))
        assert exchange_p_value(pairs, mid_p=False) == pytest.approx(mcnemar(a, b))
        assert paired_change("acc", a, b).p_value == pytest.approx(mcnemar(a, b, mid_p=True))


def test_exchange_test_of_mcc_equals_exchanging_by_hand() -> None:
    gold, before, after = (np.array(row) for row in ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0], [1, 0, 0, 1, 0, 1]))
    observed = abs(matthews_corrcoef(gold, after) - matthews_corrcoef(gold, before))
    larger = equal = 0
    for bits in itertools.product([False, True], repeat=6):
        first, second = np.where(bits, after, before), np.where(bits, before, after)
        change = abs(matthews_corrcoef(gold, second) - matthews_corrcoef(gold, first))
        larger += change > observed + 1e-9
        equal += abs(change - observed) <= 1e-9
    pairs = pair_outcomes("mcc", outcomes(gold, before), outcomes(gold, after))
    assert exchange_p_value(pairs, mid_p=False) == pytest.approx((larger + equal) / 64)
    assert exchange_p_value(pairs) == pytest.approx((larger + equal / 2) / 64)


def test_drawn_exchanges_agree_with_enumerated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    gold, before, after = two_models(np.random.default_rng(9), 150, 0.3)
    pairs = pair_outcomes("mcc", outcomes(gold, before), outcomes(gold, after))
    exact = exchange_p_value(pairs)
    monkeypatch.setattr("evals.statistics.exchange.MOST_STATES", 1)
    drawn = exchange_p_value(pairs, draws=20_000)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=0.02)
    damaged = pair_outcomes("mcc", outcomes(gold, gold), outcomes(gold, 1 - gold))
    assert 0 < exchange_p_value(damaged, draws=1000) < 0.001


def test_many_distinct_values_are_resampled_alike() -> None:
    rng = np.random.default_rng(12)
    values = rng.normal(0, 1, (200, 2))
    a, b = ([Outcome(i, "", values={"bleu": v}) for i, v in enumerate(values[:, side])] for side in (0, 1))
    change = paired_change("bleu", a, b)
    differences = values[:, 1] - values[:, 0]
    half = 1.96 * differences.std() / 200**0.5
    assert change.ci_high - change.ci_low == pytest.approx(2 * half, rel=0.05)
    assert change.p_value == pytest.approx(2 * norm.sf(abs(differences.mean()) / (half / 1.96)), abs=0.03)


def test_task_entry_names_its_metric() -> None:
    gold, before, after = two_models(np.random.default_rng(6), 100, 0.5)
    old = TaskResult("mrpc", {"acc": 0.1, "f1": 0.2}, tuple(outcomes(gold, before)))
    new = TaskResult("mrpc", {"acc": 0.3, "f1": 0.4}, tuple(outcomes(gold, after)))
    entry = task_changes(new, old)
    assert entry["metric"] == "acc"
    assert next(iter(entry)) == "acc"
    assert {"change", "ci_low", "ci_high", "p_value", "f1", "f1_change", "f1_ci_low"} <= set(entry)
    assert entry["acc"] == pytest.approx(float((gold == after).mean()))
    assert not [name for name in entry if "previous" in name]


def test_task_entry_compares_with_the_step_before_too() -> None:
    gold, base, before = two_models(np.random.default_rng(10), 100, 0.3)
    after = before.copy()
    after[:12] = 1 - gold[:12]
    results = [
        TaskResult("mrpc", {"acc": 0.0, "f1": 0.0}, tuple(outcomes(gold, predicted)))
        for predicted in (base, before, after)
    ]
    entry = task_changes(results[2], results[0], previous=results[1], level=0.9)
    step = paired_change("acc", results[1].outcomes, results[2].outcomes, level=0.9)
    for name in ("change", "ci_low", "ci_high", "p_value"):
        assert entry[f"previous_{name}"] == getattr(step, name)
    assert entry["change"] == paired_change("acc", results[0].outcomes, results[2].outcomes).change != step.change
    assert {"f1_previous_change", "f1_previous_ci_low", "f1_previous_p_value", "f1_p_value"} <= set(entry)


def record(es: float, ps: list[bool], ns: list[bool] | None = None) -> RecordScore:
    def prompts(flags: list[bool], edit: bool) -> tuple[PromptScore, ...]:
        return tuple(PromptScore("", 1.0, 2.0 if flag == edit else 0.5, flag, float(flag)) for flag in flags)

    return RecordScore(0, prompts([bool(es)], True), prompts(ps, True), prompts(ns or [], False))


def test_score_intervals_hold_their_scores() -> None:
    rng = np.random.default_rng(7)
    scores = Scores(
        tuple(record(rng.random() < 0.9, list(rng.random(2) < 0.7), list(rng.random(10) < 0.6)) for _ in range(80))
    )
    intervals = score_intervals(scores)
    for metric, interval in intervals.items():
        value = scores[metric]
        assert interval is not None
        assert value is not None
        assert interval[0] < value < interval[1], metric
    assert intervals == score_intervals(scores)


def test_wilson_is_wide_at_a_perfect_score() -> None:
    scores = Scores(tuple(record(1, [True]) for _ in range(20)))
    intervals = score_intervals(scores)
    assert intervals["ES"] == pytest.approx((83.887, 100.0), abs=0.01)
    assert intervals["NS"] is None
    assert intervals["S"] is None
    all_right = score_intervals(Scores(tuple(record(1, [True], [True]) for _ in range(20))))
    assert all_right["S"] is not None
    assert 85 < all_right["S"][0] < 95
    assert all_right["S"][1] == 100
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
