"""Gates on a batch's diagnosis: what converged and what was written, as shares of 1; never a silent pass."""

from __future__ import annotations

from typing import Any

import pytest

from evals.gates import check_gates, parse_gates
from seqedit.errors import InputError
from seqedit.scoring.gate_check import check_facts, check_measured

FOUND = {"requests": 16, "converged": 12, "reached": 12, "written": {"a": 0.91, "b": 0.62}}


def results(gates: Any, diagnosis: Any) -> list[Any]:
    return check_gates(parse_gates(gates), {"requests": 16, "diagnosis": diagnosis}, {})


def test_the_least_written_layer_and_the_share_that_converged_decide() -> None:
    low, high = results({"converged": {"min": 0.75}, "written": {"min": 0.8}}, FOUND)
    assert (low.value, low.tripped) == (0.75, False)
    assert (high.value, high.tripped) == (0.62, True)
    assert [r.tripped for r in results(["written: max 0.5", "converged: min 0.76"], FOUND)] == [True, True]


@pytest.mark.parametrize(
    ("diagnosis", "reason"),
    [
        (None, "no diagnosis"),
        ({**FOUND, "converged": None, "written": {}}, "no target values were optimised"),
    ],
)
def test_a_batch_without_the_number_trips_the_gate_and_says_why(diagnosis: Any, reason: str) -> None:
    for result in results({"converged": {"min": 0.0}, "written": {"min": 0.0}}, diagnosis):
        assert result.tripped
        assert result.value is None
        assert "diagnosis" in str(result)
    assert reason in str(results(["converged: min 0.1"], diagnosis)[0])


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("converged: min 90", "no percentage"),
        ("written: max_drop 0.1", "no change from the unedited"),
        ("written: min 0.8 at 95 %", "leave out the level"),
        ("earlier.written: min 0.8", "newest batch only"),
        ({"written": {"min": 0.8, "most": 1}}, "may have 'level'"),
        ({"written": {"min": 0.8, "max": 1}}, "one of"),
    ],
)
def test_what_could_not_be_checked_is_refused_with_the_reason(gate: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_gates([gate])


def test_a_mapping_of_conditions_means_what_the_text_means() -> None:
    assert parse_gates({"cola.mcc": {"max_drop": 0.05, "level": 0.95}}) == parse_gates(
        ["cola.mcc: max_drop 0.05 at 95 %"]
    )
    assert parse_gates([{"written": {"min": 0.8}}]) == parse_gates(["written: min 0.8"])


def test_gates_on_the_diagnosis_of_a_method_that_has_none_are_refused_beforehand() -> None:
    gates = parse_gates(["written: min 0.8"])
    what: dict[str, Any] = {"counterfact": False, "generation": False, "drift": False, "text": False}
    check_measured(gates, **what)
    check_facts(gates, {"batch 1": []})
    with pytest.raises(InputError, match="method 'ft' has no target values"):
        check_measured(gates, **what, undiagnosed="ft")
