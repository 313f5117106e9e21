"""Gates: what they are written like, and when they trip."""

from __future__ import annotations

from typing import Any

import pytest

from evals.gates import Gate, check_gates, parse_gates
from seqedit.errors import InputError

BASELINE = {"counterfact": {"NS": 99.0}, "cola": {"mcc": 0.9}}


def step(**fields: Any) -> dict[str, Any]:
    cola = {"mcc": 0.8, "metric": "mcc", "change": -0.1, "ci_low": -0.16, "ci_high": -0.04, "acc": 0.9,
            "acc_change": -0.02, "acc_ci_low": -0.05, "acc_ci_high": 0.01}  # fmt: skip
    return {
        "requests": 16, "ES": 93.75, "NS": 90.0, "PS": None, "tasks": {"cola": cola},
        "earlier": {"ES": 85.0, "requests": 160}, "drift": {"perplexity": 12.0}, **fields,
    }  # fmt: skip


def tripped(gate: str, **fields: Any) -> bool:
    (result,) = check_gates(parse_gates([gate]), step(**fields), BASELINE)
    return result.tripped


@pytest.mark.parametrize(
    "written",
    [
        ["cola.mcc: max_drop 0.05 at 95 %"],
        ["cola.mcc:max_drop 0.05 at 95%"],
        {"cola.mcc": "max_drop 0.05 at 95 %"},
        [{"cola.mcc": "max_drop 0.05 at 95 %"}],
        [{"metric": "cola.mcc", "max_drop": 0.05, "level": 0.95}],
    ],
)
def test_every_way_of_writing_a_gate_means_the_same(written: Any) -> None:
    assert parse_gates(written) == (Gate("cola.mcc", "max_drop", 0.05, 0.95),)
    assert parse_gates([parse_gates(written)[0].name]) == parse_gates(written)


def test_earlier_edits_can_be_named_in_words() -> None:
    assert parse_gates(["ES of earlier edits: min 90"]) == (Gate("earlier.ES", "min", 90.0),)


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("cola.mcc: max_drop 0.05", True),  # fell by 0.1
        ("cola.mcc: max_drop 0.05 at 95 %", False),  # but the interval reaches to 0.04
        ("cola.mcc: max_drop 0.03 at 95 %", True),
        ("cola.acc: max_drop 0.01", True),
        ("cola.acc: max_drop 0 at 95 %", False),
        ("cola.mcc: min 0.85", True),
        ("cola.mcc: min 0.85 at 95 %", False),  # 0.9 - 0.04 = 0.86
        ("cola.mcc: min 0.87 at 95 %", True),
        ("ES: min 95", True),
        ("ES: min 95 at 95 %", False),  # 15 of 16
        ("earlier.ES: min 90", True),
        ("earlier.ES: min 90 at 95 %", True),  # 136 of 160: at most 89.7
        ("NS: max_drop 5", True),
        ("NS: max_drop 10", False),
        ("drift.perplexity: max 10", True),
        ("drift.perplexity: max 20", False),
        ("PS: min 50", False),  # no record could tell it
    ],
)
def test_a_gate_trips_where_its_limit_is_passed(gate: str, expected: bool) -> None:
    assert tripped(gate) is expected


def test_the_first_step_has_no_earlier_edits_to_trip_on() -> None:
    assert not tripped("earlier.ES: min 90", earlier=None)


def test_other_levels_of_tasks_ask_for_their_interval() -> None:
    gates = parse_gates(["cola.mcc: max_drop 0.05 at 80 %"])
    asked = []

    def interval(task: str, metric: str, level: float) -> tuple[float, float]:
        asked.append((task, metric, level))
        return -0.13, -0.06

    (result,) = check_gates(gates, step(), BASELINE, interval)
    assert asked == [("cola", "mcc", 0.8)]
    assert result.tripped
    assert result.bound == -0.06
    with pytest.raises(InputError, match="95 %"):
        check_gates(gates, step(), BASELINE)


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (["cola.mcc falls"], "cola.mcc falls"),
        (["cola.mcc: max_drop much"], "not understood"),
        (["cola.mcc: min 0.1 at 20 %"], "20 %"),
        (["cola.mcc: max_drop -0.1"], "negative"),
        ([{"metric": "ES"}], "ES"),
        ([{"metric": "ES", "min": 1, "mxa": 2}], "mxa"),
        ([3], "3"),
        ("ES: min 90", "list"),
    ],
)
def test_what_is_not_understood_is_quoted(written: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        parse_gates(written)


@pytest.mark.parametrize("gate", ["sst2.acc: min 0.5", "cola.f1: min 0.5", "ZS: min 1", "drift.norm: max 2"])
def test_a_metric_that_is_never_measured_is_an_error_not_a_silent_pass(gate: str) -> None:
    with pytest.raises(InputError, match="is measured"):
        tripped(gate)
