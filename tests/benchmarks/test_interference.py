"""The calibration of plans: its fits against known numbers, and a quick run of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.interference import COMMAND, analysed
from benchmarks.interference_fit import auc, binned, logistic
from benchmarks.interference_ledger import ledger_rows
from evals.scores.counterfact import score_records
from ledger import Ledger
from seqedit.errors import InputError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import SecondMomentSettings, provide_second_moments
from seqedit.runs.config import RunConfig, run_config
from seqedit.runs.runner import run
from tests.conftest import REFERENCE


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


TEXT = "\n".join(" ".join(f"Number {i * j % 83} plays golf in town {j}." for j in range(1, 9)) for i in range(1, 200))


def finished(folder: Path, *, protect: bool, counterfact: bool = True) -> RunConfig:
    """A run of four batches of two on the reference model."""
    records = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
    (folder / "facts.json").write_text(json.dumps(records))
    (folder / "text.txt").write_text(TEXT)
    settings = {"layers": [1, 2], "steps": 8, "second_moment_weight": 5, "clamp_norm_factor": 1.5, "shrinkage": 0.1}
    config = run_config(
        {
            "model": str(REFERENCE / "model"), "facts": "facts.json", "batch_size": 2, "method": "memit",
            "settings": {**settings, "protect_earlier": protect}, "out": "out", "ledger": "ledger",
            "second_moments": {"text": str(folder / "text.txt"), "max_tokens": 2000},
            "context_templates": [["{}"]],
            "evals": {"generation": False, "drift": False, "counterfact": counterfact},
        },
        folder,
    )  # fmt: skip
    run(config)
    return config


def of(folder: Path, **changed: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    given: dict[str, Any] = {"branch": None, "model": None, "text": str(folder / "text.txt"), "tokens": 2000}
    return ledger_rows(str(folder / "ledger"), **{**given, **changed})


def test_a_finished_run_tells_who_was_right_who_still_is_and_how_near_later_keys_lay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    finished(tmp_path, protect=True)
    rows, told = of(tmp_path)
    assert [row["batch"] for row in rows] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [row["after"] for row in rows] == [6, 6, 4, 4, 2, 2, 0, 0]
    assert (told["protected"], told["facts"], told["kept"]) == (True, 8, sum(row["kept"] for row in rows))
    edited = EditedModel(*load_model(str(REFERENCE / "model")))
    facts = [Record(record.request) for record in load_records(tmp_path / "facts.json")]
    layers = edited.parts.projections_of((1, 2))
    moments = SecondMomentSettings(text=str(tmp_path / "text.txt"), max_tokens=2000)
    c0 = provide_second_moments(edited, (1, 2), moments).matrices
    with Ledger.open(tmp_path / "ledger") as ledger:
        entries = ledger.log()[::-1][1:]
        adapters = [ledger.adapter(entry.id) for entry in entries]
        for number, entry in enumerate(entries):  # right just after its batch, and at the end
            edited.write(ledger.compose(edited.base, entry.id))
            scored = score_records(edited.model, edited.tokenizer, facts).values("EM")
            assert [row["right"] for row in rows[2 * number : 2 * number + 2]] == [
                value == 1 for value in scored[2 * number : 2 * number + 2]
            ]
        assert [row["kept_at_all"] for row in rows] == [value == 1 for value in scored]
    weight, shrinkage = 5.0, 0.1
    for i, row in enumerate(rows[:6]):
        expected: dict[str, list[float]] = {"raw": [], "solver": [], "at_step": []}
        for layer in layers:
            keys = torch.cat([adapter.keys[layer.name] for adapter in adapters]).double()
            matrix = c0[layer.name].double()
            matrix = (1 - shrinkage) * matrix + shrinkage * matrix.trace() / len(matrix) * torch.eye(len(matrix))
            for j in range(2 * row["batch"], 8):
                held = keys[: j - j % 2]
                for name, metric in (("raw", torch.eye(len(matrix), dtype=torch.float64)), ("solver", weight * matrix),
                                     ("at_step", weight * matrix + held.T @ held)):  # fmt: skip
                    inverse = torch.linalg.inv(metric)
                    a, b = keys[i], keys[j]
                    cosine = (a @ inverse @ b) / ((a @ inverse @ a) * (b @ inverse @ b)).sqrt()
                    expected[name].append(float(cosine))
        for name, values in expected.items():
            assert row[name] == pytest.approx(max(values), abs=1e-6), name
    assert [row["solver"] for row in rows[6:]] == [None, None]


def test_a_run_that_did_not_score_its_facts_and_other_second_moments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    finished(tmp_path, protect=False, counterfact=False)
    with pytest.raises(InputError, match=r"solved with other second moments.*--text and --tokens"):
        of(tmp_path, tokens=1000)
    with pytest.raises(InputError, match="were not all scored just after it"):
        of(tmp_path)
    arguments = ["--ledger", str(tmp_path / "ledger"), "--text", str(tmp_path / "text.txt"), "--tokens", "2000"]
    assert COMMAND.main(arguments) == 2


def test_runs_are_fitted_and_drawn_from_their_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    finished(tmp_path, protect=False)
    arguments = ["--ledger", str(tmp_path / "ledger"), "--text", str(tmp_path / "text.txt"), "--tokens", "2000"]
    assert COMMAND.main([*arguments, "--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / "f.png")]) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    assert list(found["fits"]) == list(found["runs"]) == ["memit unprotected"]
    assert found["runs"]["memit unprotected"]["weight"] == 5
    assert all(row["at_step"] == row["solver"] for row in found["rows"])  # nothing protected: nothing changes
    assert (tmp_path / "f.png").stat().st_size > 1000
