"""Levels of single looks: together they keep the run's promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from evals.statistics.sequential import look_level
from seqedit.errors import InputError


def test_one_look_is_the_level_itself() -> None:
    assert look_level(1, 1) == pytest.approx(0.95)
    assert look_level(1, 1, comparisons=5) == pytest.approx(0.99)


@pytest.mark.parametrize("looks", [10, None])
def test_shares_add_up_to_no_more_than_the_whole(looks: int | None) -> None:
    spent = sum(1 - look_level(look, looks, level=0.9) for look in range(1, (looks or 100_000) + 1))
    assert spent == pytest.approx(0.1, rel=1e-4)
    assert spent <= 0.1 + 1e-9


@pytest.mark.parametrize("looks", [40, None])
def test_false_alarms_of_a_whole_run_stay_below_the_level(looks: int | None) -> None:
    # A statistic that wanders from step to step, as the change of a task does under harmless edits.
    steps = np.random.default_rng(0).normal(size=(4000, 40)).cumsum(axis=1) / np.arange(1, 41) ** 0.5
    p_values = 2 * norm.sf(np.abs(steps))
    thresholds = np.array([1 - look_level(look, looks) for look in range(1, 41)])
    assert (p_values < thresholds).any(axis=1).mean() <= 0.05
    assert (p_values < 0.05).any(axis=1).mean() > 0.2


@pytest.mark.parametrize(("look", "looks", "level", "comparisons"), [
    (0, None, 0.95, 1), (3, 2, 0.95, 1), (1, None, 1.0, 1), (1, None, 0.0, 1), (1, 1, 0.95, 0),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(look: int, looks: int | None, level: float, comparisons: int) -> None:
    with pytest.raises(InputError):
        look_level(look, looks, level=level, comparisons=comparisons)
