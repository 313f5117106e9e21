"""The calibration of plans: its fits against known numbers, and a quick run of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks.interference import COMMAND, analysed
from benchmarks.interference_fit import auc, binned, logistic


def test_the_logistic_fit_is_sklearns_and_finds_the_odds_ratio_that_made_the_data() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 2))
    y = (random.random(4000) < 1 / (1 + np.exp(-(0.4 + x @ np.array([-1.1, 0.5]))))).astype(float)
    found = logistic(x, y, range(4000))
    other = LogisticRegression(C=1e12, tol=1e-10).fit(x, y)
    assert found["converged"]
    assert found["intercept"] == pytest.approx(other.intercept_[0], abs=1e-4)
    assert [one["slope"] for one in found["slopes"]] == pytest.approx(other.coef_[0].tolist(), abs=1e-4)
    for one, true in zip(found["slopes"], (-1.1, 0.5), strict=True):
        assert one["low"] < np.exp(true) < one["high"]
        assert one["high"] / one["low"] < 1.3


def test_facts_that_share_a_fate_widen_the_interval() -> None:
    random = np.random.default_rng(1)
    x = np.repeat(random.normal(size=50), 20)[:, None]
    y = np.repeat((random.random(50) < 0.5).astype(float), 20)
    alone, shared = (logistic(x, y, groups)["slopes"][0] for groups in (range(1000), np.repeat(range(50), 20).tolist()))
    assert shared["high"] / shared["low"] > 2 * alone["high"] / alone["low"]


def test_bins_hold_everything_and_the_area_is_the_share_of_pairs_in_order() -> None:
    x, y = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), np.array([1, 1, 0, 1, 0, 0.0])
    bins = binned(x, y, 3)
    assert [one["count"] for one in bins] == [2, 2, 2]
    assert [one["share"] for one in bins] == [1, 0.5, 0]
    assert all(one["low"] <= one["share"] <= one["high"] for one in bins)
    assert auc(-x, y) == pytest.approx(8 / 9)
    assert auc(np.zeros(6), y) == 0.5


def test_facts_that_were_never_right_and_those_of_the_last_batch_do_not_count() -> None:
    row = {"seed": 0, "order": "file", "batch": 1, "after": 8, "right": True, "kept": True, "raw": 0.2, "solver": 0.1}
    rows = [row | {"kept": i % 2 == 0, "batch": i, "solver": 0.1 * (i % 3), "raw": 0.1} for i in range(12)]
    rows += [row | {"right": False, "kept": False}, row | {"raw": None, "solver": None}]
    fits = analysed(rows)["fits"]
    assert fits["file"]["facts"] == 12
    assert fits["clustered"]["note"] == "nothing to fit"


def test_a_quick_calibration_runs_and_draws(tmp_path: Path) -> None:
    arguments = ["--quick", "--batches", "2", "--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / "f.png")]
    assert COMMAND.main(arguments) == 0
    assert (tmp_path / "f.png").stat().st_size > 1000
    assert COMMAND.main(["--quick", "--method", "ft"]) == 2
