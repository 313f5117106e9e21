"""Samples of earlier edits: stratified, nested, within budget, and their intervals hold."""

from __future__ import annotations

import time

import numpy as np
import pytest

from evals.scores.scores import PromptScore, RecordScore, Scores
from evals.scores.survey import choose_records, estimate_scores
from seqedit.errors import InputError


def keys(sizes: list[int]) -> list[list[str]]:
    return [[f"{batch}/{i}" for i in range(size)] for batch, size in enumerate(sizes)]


def record(es: bool, ps: tuple[bool, ...], ns: tuple[bool, ...]) -> RecordScore:
    def prompts(newer: tuple[bool, ...]) -> tuple[PromptScore, ...]:
        return tuple(PromptScore("", 0.0 if flag else 1.0, 0.5, None) for flag in newer)

    return RecordScore(None, prompts((es,)), prompts(ps), prompts(tuple(not flag for flag in ns)))


def forgetful_history(rng: np.random.Generator, batches: int, size: int) -> list[list[RecordScore]]:
    """Batches of which the older ones hold less: ES rises from 0.6 to 1.0, paraphrases and neighbours likewise."""
    history = []
    for batch in range(batches):
        mean = 0.6 + 0.39 * batch / batches
        shares = rng.beta(10 * mean, 10 * (1 - mean), size)
        history.append([record(bool(rng.random() < p), *(tuple(rng.random(n) < p) for n in (2, 5))) for p in shares])
    return history


def test_all_records_where_the_budget_allows_or_none_is_set() -> None:
    for budget in (None, 30, 100):
        sample = choose_records(keys([10, 20]), budget)
        assert sample.exact
        assert sample.chosen == tuple((b, i) for b, size in enumerate([10, 20]) for i in range(size))
    assert choose_records([], None).chosen == ()


@pytest.mark.parametrize("sizes", [[16] * 40, [1] * 300, [64, 1, 0, 3, 16, 200], [2, 2, 2, 2, 2]])
@pytest.mark.parametrize("budget", [2, 9, 100])
def test_budget_is_kept_and_every_stratum_is_seen(sizes: list[int], budget: int) -> None:
    sample = choose_records(keys(sizes), budget)
    assert len(sample.chosen) == min(budget, sum(sizes))
    assert sum(sample.sizes) == sum(sizes)
    for stratum, size in enumerate(sample.sizes):
        assert sample.strata.count(stratum) >= min(2, size)
    assert sample.by_batch().keys() <= set(range(len(sizes)))


def test_the_sample_is_proportional() -> None:
    sample = choose_records(keys([100, 200, 300]), 60)
    assert [sample.strata.count(s) for s in range(3)] == [10, 20, 30]


def test_seeded_and_independent_of_what_else_there_is() -> None:
    assert choose_records(keys([50, 50]), 20) == choose_records(keys([50, 50]), 20)
    assert choose_records(keys([50, 50]), 20, seed=1) != choose_records(keys([50, 50]), 20)


def test_later_samples_hold_a_part_of_earlier_ones() -> None:
    rng = np.random.default_rng(0)
    sizes = [int(size) for size in rng.integers(1, 40, 30)]
    before = None
    for step in range(1, 31):
        sample = choose_records(keys(sizes[:step]), 60)
        assert max(sample.strata) == step - 1  # every batch is a stratum of its own
        if before is not None:
            assert {place for place in sample.chosen if place[0] < step - 1} <= before
        before = set(sample.chosen)


def test_most_records_stay_where_batches_are_joined() -> None:
    before: set[tuple[int, int]] = set()
    kept = []
    for step in range(100, 200):
        chosen = set(choose_records(keys([1] * step), 50).chosen)
        if before:
            kept.append(len(chosen & before) / 50)
        before = chosen
    assert np.mean(kept) > 0.9


def test_a_superseded_record_leaves_the_others_in_place() -> None:
    batches = keys([30, 30])
    before = choose_records(batches, 20)
    gone = before.chosen[0]
    shorter = [[key for i, key in enumerate(batch) if (b, i) != gone] for b, batch in enumerate(batches)]
    named = {batches[b][i] for b, i in before.chosen}
    after = {shorter[b][i] for b, i in choose_records(shorter, 20).chosen}
    assert len(named & after) == 19


def test_intervals_of_a_sample_hold_the_score_of_the_history() -> None:
    rng = np.random.default_rng(3)
    history = forgetful_history(rng, 20, 16)
    truth = Scores(tuple(r for batch in history for r in batch))
    covered = dict.fromkeys(("ES", "PS", "NS", "S"), 0)
    values = []
    for seed in range(300):
        sample = choose_records(keys([16] * 20), 80, seed=seed)
        found = estimate_scores(sample, Scores(tuple(history[b][i] for b, i in sample.chosen)))
        for metric in covered:
            estimate, value = found[metric], truth[metric]
            assert estimate is not None
            assert value is not None
            covered[metric] += estimate.ci_low <= value <= estimate.ci_high
        values.append(found["ES"].value)  # type: ignore[union-attr]
    for metric, count in covered.items():
        assert 0.91 <= count / 300 <= 0.99, metric
    assert np.mean(values) == pytest.approx(truth["ES"], abs=4 * np.std(values) / 300**0.5)


def test_all_is_exact_for_the_history_and_uncertain_for_its_kind() -> None:
    history = forgetful_history(np.random.default_rng(4), 4, 16)
    scores = Scores(tuple(r for batch in history for r in batch))
    sample = choose_records(keys([16] * 4), None)
    exact = estimate_scores(sample, scores)
    kind = estimate_scores(sample, scores, of_history=False)
    for metric in ("ES", "PS", "NS", "S"):
        one, other = exact[metric], kind[metric]
        assert one is not None
        assert other is not None
        assert one.value == pytest.approx(scores[metric])
        assert (one.ci_low, one.ci_high) == pytest.approx((one.value, one.value))
        assert other.ci_low < other.value < other.ci_high
    assert exact["EM"] is None


def test_a_perfect_sample_is_not_a_perfect_history() -> None:
    sample = choose_records(keys([50] * 4), 20)
    found = estimate_scores(sample, Scores(tuple(record(True, (True, True), (True,)) for _ in sample.chosen)))
    for metric in ("ES", "PS", "NS", "S"):
        estimate = found[metric]
        assert estimate is not None
        assert estimate.value == estimate.ci_high == 100
        assert estimate.ci_low < 95


def test_unequal_batches_are_weighed_by_their_size() -> None:
    sample = choose_records(keys([300, 2]), 22)
    scores = Scores(tuple(record(batch == 0, (True,), (True,)) for batch, _ in sample.chosen))
    found = estimate_scores(sample, scores)["ES"]
    assert found is not None
    assert found.value == pytest.approx(100 * 300 / 302)


def test_records_that_cannot_tell_a_metric_do_not_count() -> None:
    sample = choose_records(keys([40, 40]), 20)
    scores = Scores(tuple(record(True, (True,) if place[0] else (), (False,)) for place in sample.chosen))
    found = estimate_scores(sample, scores)
    assert found["PS"] is not None
    assert found["PS"].value == 100
    assert found["S"] is not None
    assert found["S"].value == 0


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        choose_records(keys([10]), 1)
    sample = choose_records(keys([10]), 5)
    with pytest.raises(InputError, match=r"5 records, but 1"):
        estimate_scores(sample, Scores((record(True, (), ()),)))


def test_ten_thousand_records_are_sampled_at_once() -> None:
    batches = keys([16] * 625)
    start = time.process_time()
    choose_records(batches, 500)
    assert time.process_time() - start < 1
