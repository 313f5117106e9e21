"""Half-life of a forgetting curve, and the step where gradual turns into catastrophic forgetting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.forgetting import AgePoint, find_collapse, half_life


def curve(*means: float) -> list[AgePoint]:
    return [AgePoint(age, mean, 3, None, None) for age, mean in enumerate(means)]


def test_half_life_is_interpolated_between_the_ages_around_it() -> None:
    assert half_life(curve(100, 80, 60, 40)) == pytest.approx(2.5)
    assert half_life(curve(90, 45)) == pytest.approx(1.0)


def test_what_is_not_half_forgotten_has_no_half_life() -> None:
    assert half_life(curve(100, 90, 80)) is None
    assert half_life(curve(0, 0)) is None
    assert half_life([]) is None


def series(
    length: int, bend: int, gentle: float, steep: float, noise: float, seed: int, floor: float = 0.0
) -> list[float]:
    rng = np.random.default_rng(seed)
    steps = np.arange(length)
    values = 100 + gentle * np.minimum(steps, bend) + steep * np.maximum(steps - bend, 0)
    return list(np.clip(np.maximum(values, floor) + rng.normal(0, noise, length), 0, 100))


@given(bend=st.integers(8, 30), seed=st.integers(0, 10_000), steep=st.floats(-12, -4))
@settings(max_examples=60, deadline=None)
def test_a_planted_collapse_is_found_where_it_is(bend: int, seed: int, steep: float) -> None:
    found = find_collapse(series(45, bend, -0.3, steep, 1.0, seed, floor=5.0))
    assert found is not None
    assert abs(found.step - (bend + 2)) <= 2  # the first step that is steep, counted from 1
    assert found.low <= found.step <= found.high
    assert found.slope_after < 3 * found.slope_before


@given(slope=st.floats(-1.5, 0), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_steady_decline_is_no_collapse(slope: float, seed: int) -> None:
    assert find_collapse(series(40, 39, slope, slope, 1.5, seed)) is None


def test_a_short_series_and_a_small_fall_are_none_and_gaps_are_allowed() -> None:
    assert find_collapse([100, 50, 0]) is None
    assert find_collapse(series(40, 20, 0, -0.3, 0.1, 1)) is None
    values = series(40, 20, 0, -5, 0.5, 2)
    with_gaps = [None if i % 5 == 3 else v for i, v in enumerate(values)]
    found, whole = find_collapse(with_gaps), find_collapse(values)
    assert found is not None
    assert whole is not None
    assert abs(found.step - whole.step) <= 2


def test_recovering_scores_are_no_collapse() -> None:
    assert find_collapse([50 + i for i in range(30)]) is None


def test_a_collapse_after_which_the_score_slowly_goes_on_falling_is_found_where_it_begins() -> None:
    # CoLA's mcc x 100 of a real run, 60 batches by MEND on the demo world: the eye sees the fall begin at step 8.
    real = [
        95, 95, 94, 94, 94, 94, 92, 89, 87, 86, 81, 76, 65, 64, 61, 59, 54, 45, 40, 38,
        38, 35, 31, 26, 26, 28, 28, 26, 30, 30, 32, 32, 30, 32, 39, 38, 31, 18, 15, 5,
        2, 2, -7, -7, -2, -2, 6, 3, 3, 3, 3, 8, 6, 6, 6, 6, 6, 0, 0, 0,
    ]  # fmt: skip
    found = find_collapse([float(v) for v in real])
    assert found is not None
    assert 7 <= found.step <= 11


def test_a_fall_that_levels_off_from_the_start_is_no_collapse() -> None:
    assert find_collapse([100 * 0.9**i for i in range(40)]) is None
