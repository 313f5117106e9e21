"""The forgetting matrix, its curve, and what does not count as forgotten."""

from __future__ import annotations

import pytest

from evals.forgetting import (
    batch_scores,
    earlier_scores,
    forgetting_curve,
    forgetting_matrix,
    forgetting_row,
    retention,
)
from evals.scores.scores import PromptScore, RecordScore, Scores
from seqedit.errors import InputError


def scores(*held: bool) -> Scores:
    """One record per flag: whether its edit holds."""
    return Scores(
        tuple(RecordScore(i, (PromptScore("", 1.0, 2.0 if h else 0.5, h),), (), ()) for i, h in enumerate(held))
    )


def test_row_splits_one_measurement_into_batches() -> None:
    parts = batch_scores(scores(True, False, True, True, False), [[0, 1], [2, 3], [4]])
    assert forgetting_row(parts) == [50.0, 100.0, 0.0]


def test_superseded_facts_do_not_count_as_forgotten() -> None:
    everything = scores(True, False, True)
    parts = batch_scores(everything, [[0, 1], [2]], live=[[True, False], [True]])
    assert forgetting_row(parts) == [100.0, 100.0]
    earlier = earlier_scores(everything, [[0, 1], [2]], live=[[True, False], [True]])
    assert earlier is not None
    assert (earlier["ES"], len(earlier.records)) == (100.0, 1)


def test_batch_without_a_live_fact_is_none() -> None:
    parts = batch_scores(scores(True, True), [[0], [1]], live=[[False], [True]])
    assert forgetting_row(parts) == [None, 100.0]
    assert earlier_scores(scores(True, True), [[0], [1]], live=[[False], [True]]) is None


def test_first_step_has_no_earlier_edits() -> None:
    assert earlier_scores(scores(True), [[0]]) is None


def test_live_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(InputError, match="every record"):
        batch_scores(scores(True, True), [[0], [1]], live=[[True], []])


def test_matrix_is_square_from_short_or_sparse_rows() -> None:
    assert forgetting_matrix([[90], [80, 95], {0: 70.0, 2: 99.0}]) == [
        [90, None, None],
        [80, 95, None],
        [70.0, None, 99.0],
    ]


def test_a_score_before_the_edit_was_made_is_refused() -> None:
    with pytest.raises(InputError, match="later step 1"):
        forgetting_matrix([[90, 50], [80, 95]])


MATRIX = [[100.0, None, None], [80.0, 90.0, None], [60.0, 80.0, 95.0]]


def test_curve_averages_along_diagonals() -> None:
    curve = forgetting_curve(MATRIX)
    assert [(p.age, p.mean, p.count) for p in curve] == [(0, 95.0, 3), (1, 80.0, 2), (2, 60.0, 1)]


def test_curve_intervals_are_students_and_absent_for_one_batch() -> None:
    fresh, middle, old = forgetting_curve(MATRIX)
    # 100, 90, 95: standard error 5 / sqrt(3), t(2) = 4.3027; clipped at 100.
    assert fresh.ci_low == pytest.approx(95 - 4.30265 * 5 / 3**0.5, abs=1e-3)
    assert fresh.ci_high == 100.0
    assert (middle.ci_low, middle.ci_high) == (80.0, 80.0)
    assert (old.ci_low, old.ci_high) == (None, None)


def test_curve_leaves_unmeasured_ages_out() -> None:
    curve = forgetting_curve([[100.0, None], [None, 90.0]])
    assert [p.age for p in curve] == [0]
    assert forgetting_curve([]) == []


def test_retention_compares_now_with_then() -> None:
    assert retention(MATRIX) == pytest.approx((60 + 80) / (100 + 90))
    assert retention([[100.0]]) is None
    assert retention([[0.0, None], [0.0, 90.0]]) is None
    assert retention([]) is None


def test_curve_of_the_steps_in_force_ages_batches_by_each_other_only() -> None:
    # Batches at steps 0, 1, 3 and 4; step 2 takes back the one of step 1.
    matrix = [
        [50.0, None, None, None, None],
        [40.0, 10.0, None, None, None],
        [50.0, None, None, None, None],
        [48.0, None, None, 75.0, None],
        [46.0, None, None, 70.0, 80.0],
    ]
    curve = forgetting_curve(matrix, steps=[0, 3, 4])
    assert [(p.age, p.mean, p.count) for p in curve] == [(0, (50 + 75 + 80) / 3, 3), (1, 59.0, 2), (2, 46.0, 1)]


def test_a_report_of_a_summary_without_a_curve_ages_by_the_batches_in_force() -> None:
    from evals.report.charts import curve_points

    steps = [{"step": 1, "active": True}, {"step": 2, "active": False}, {"step": 3, "active": False},
             {"step": 4, "active": True}]  # fmt: skip
    matrix = [[90.0] + [None] * 3, [80.0, 0.0, None, None], [90.0] + [None] * 3, [70.0, None, None, 60.0]]
    assert [(p["age"], p["mean"], p["count"]) for p in curve_points({"forgetting": matrix, "steps": steps})] == [
        (0, 75.0, 2), (1, 70.0, 1)
    ]  # fmt: skip
