"""Gates: what they are written like, and when they trip."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from evals.gate_rules import DRIFT, KINDS
from evals.gates import Gate, GateResult, broken_gates, check_gates, parse_gates
from evals.scores.intervals import estimated_scores
from evals.scores.paired import PairedScore, paired_scores
from evals.scores.scores import METRICS, PromptScore, RecordScore, Scores
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


def record(es: bool, ps: float = 1.0, ns: float = 1.0) -> RecordScore:
    """A record with one prompt, ten paraphrases and ten neighbours, of which so many hold."""

    def prompt(new_is_likelier: bool, right: bool | None = None) -> PromptScore:
        right = new_is_likelier if right is None else right
        return PromptScore("p", 1.0 if new_is_likelier else 3.0, 2.0, right, float(right))

    return RecordScore(
        None,
        (prompt(es),),
        tuple(prompt(i < round(10 * ps)) for i in range(10)),
        tuple(prompt(i >= round(10 * ns), i < round(10 * ns)) for i in range(10)),
    )


def paired(before: list[RecordScore], after: list[RecordScore]) -> dict[str, Any]:
    found = {k: v.to_dict() for k, v in paired_scores(Scores(tuple(before)), Scores(tuple(after))).items()}
    return json.loads(json.dumps(found, allow_nan=False))


WHOLE = [record(True)] * 16
HARMED = [record(i % 2 > 0, 0.6 - 0.1 * (i % 3), 0.5 + 0.1 * (i % 4)) for i in range(16)]


def full_step(records: list[RecordScore], before: list[RecordScore] = WHOLE) -> dict[str, Any]:
    """A step with everything that can be measured."""
    scores = {**Scores(tuple(records)).summary, "requests": len(records)}
    task = {"metric": "mcc", "mcc": 0.5, "change": -0.4, "ci_low": -0.6, "ci_high": -0.2, "acc": 0.7,
            "acc_change": -0.2, "acc_ci_low": -0.3, "acc_ci_high": -0.1}  # fmt: skip
    return {
        **scores, "GE": 480.0, "RS": 20.0, "earlier": scores, "tasks": {"cola": task},
        "paired": {"new": paired(before, records), "earlier": paired(before, records)},
        "generated": {"GE": {"mean": 480.0, "deviation": 40.0, "records": 16},
                      "RS": {"mean": 20.0, "deviation": 8.0, "records": 16}},
        "drift": {"perplexity": 60.0, "nll": math.log(60), "weight_norm": 0.4, "preservation": 0.3,
                  "memorisation": 0.9, "kl": 0.7},
    }  # fmt: skip


FULL_BASELINE = {"drift": {"perplexity": 20.0, "nll": math.log(20)}}
EVERY_METRIC = [
    *METRICS, *(f"earlier.{name}" for name in METRICS), "GE", "RS", "earlier.GE", "earlier.RS",
    *(f"drift.{name}" for name in DRIFT), "cola.mcc", "cola.acc",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [None, 0.8, 0.95])
@pytest.mark.parametrize("metric", EVERY_METRIC)
def test_every_metric_and_condition_is_honoured_or_refused_when_it_is_read(
    metric: str, kind: str, level: float | None
) -> None:
    """A gate that is read trips where its limit is far away on the wrong side, and does not on the right one."""
    unit = 0.01 if metric.startswith("cola") else 1.0
    never, always = {"min": (0.0, 100.0), "max": (100.0, 0.0)}.get(kind, (100.0, 0.0))
    if metric == "GE":
        never, always = (0.0, 900.0) if kind == "min" else (900.0, 0.0)
    step = full_step(HARMED)
    falls = not metric.startswith("drift.")
    try:
        gates = [Gate(metric, kind, limit * unit, level) for limit in (never, always)]
    except InputError as error:
        refused = str(error)
        assert metric in refused
        if metric.startswith("earlier.G") or metric.startswith("earlier.R"):
            assert "newest batch" in refused
        elif metric in ("GE", "RS"):
            assert kind in ("max_drop", "max_rise")
        else:
            assert metric.startswith("drift.")
            assert level is not None or (kind.startswith("max_") and metric not in ("drift.perplexity", "drift.nll"))
        return
    kept, beyond = check_gates(gates, step, FULL_BASELINE, lambda task, name, wanted: (-0.5, -0.3))
    assert not kept.tripped
    # Only what fell can have dropped, and only what rose can have risen.
    assert beyond.tripped == ((kind != "max_drop" or falls) and (kind != "max_rise" or not falls))
    assert kept.value is not None
    assert (kept.bound is None) == (level is None)


def test_a_change_of_scores_has_newcombes_paired_interval() -> None:
    """Newcombe 1998, table of method 10: a, b, c, d = 36, 12, 2, 0 of 50 gives 0.20 (0.0569 to 0.3404)."""
    counts = [(True, True, 36), (True, False, 12), (False, True, 2)]
    before = [record(one) for one, _, n in counts for _ in range(n)]
    after = [record(other) for _, other, n in counts for _ in range(n)]
    found = paired_scores(Scores(tuple(before)), Scores(tuple(after)))["ES"]
    assert found.change == pytest.approx(-20.0)
    assert found.change_interval(0.95) == pytest.approx((-34.04, -5.69), abs=0.01)
    assert PairedScore.from_dict(json.loads(json.dumps(found.to_dict()))).change_interval(0.9) == pytest.approx(
        found.change_interval(0.9)
    )


def test_intervals_of_the_value_are_those_that_the_summary_has() -> None:
    scores = Scores(tuple(HARMED))
    expected = estimated_scores(scores)
    for name, found in paired_scores(Scores(tuple(WHOLE)), scores).items():
        assert (found.after, *found.interval(0.95)) == pytest.approx(tuple(expected[name].to_dict().values()))


def test_paired_intervals_hold_their_level_in_small_batches() -> None:
    """Records drawn from 128 of which an edit has harmed some: the interval of the drop holds the true drop."""
    import numpy as np

    random = np.random.default_rng(0)
    before = [record(random.random() < 0.95, ns=random.binomial(10, 0.85) / 10) for _ in range(128)]
    after = [
        record(
            r.value("ES") == 1 and random.random() < 0.9, ns=random.binomial(round(10 * (r.value("NS") or 0)), 0.9) / 10
        )
        for r in before
    ]
    whole = paired_scores(Scores(tuple(before)), Scores(tuple(after)))
    for name in ("ES", "NS"):
        held = 0
        for _ in range(400):
            chosen = random.integers(0, 128, 16)
            found = paired_scores(Scores(tuple(before[i] for i in chosen)), Scores(tuple(after[i] for i in chosen)))[
                name
            ]
            low, high = found.change_interval(0.95)
            held += low <= whole[name].change <= high
        assert held >= 0.90 * 400


def test_a_drop_is_one_on_the_same_records() -> None:
    """A batch that the unedited model answered no better has not dropped, whatever the mean over all records was."""
    step = full_step(HARMED, before=HARMED)
    (kept,) = check_gates(parse_gates(["NS: max_drop 2"]), step, {"counterfact": {"NS": 100.0}})
    assert (kept.value, kept.tripped) == (pytest.approx(0.0), False)


def test_a_drop_that_noise_explains_trips_without_a_level_only() -> None:
    after = [record(True, ns=1.0 if i else 0.6) for i in range(16)]
    step = full_step(after)
    results = check_gates(parse_gates(["NS: max_drop 2", "NS: max_drop 2 at 95 %"]), step, {})
    assert [r.tripped for r in results] == [True, False]
    assert results[1].bound is not None


@pytest.mark.parametrize(
    ("gate", "fields"),
    [
        ("cola.acc: max_drop 0.05", {"tasks": {"cola": {"metric": "acc", "acc": 0.85, "change": 0.85 - 0.90}}}),
        ("ES: min 93.75", {"ES": 100 * 15 / 16}),
        ("ES: min 70", {"ES": 100 * sum([1 / 3 + 1 / 3 + 0.1 / 3] * 3) / 3}),
        ("drift.perplexity: max 0.3", {"drift": {"perplexity": 0.1 + 0.2}}),
    ],
)
def test_a_limit_that_is_met_exactly_is_kept_whatever_the_rounding(gate: str, fields: dict[str, Any]) -> None:
    assert not tripped(gate, **fields)


@pytest.mark.parametrize("gate", ["PS: min 50", "PS: max_drop 5", "earlier.NS: min 50", "earlier.NS: max 50 at 95 %"])
def test_a_score_that_nothing_can_tell_is_an_error_not_a_silent_pass(gate: str) -> None:
    with pytest.raises(InputError, match=r"no '(PS|earlier\.NS)' is measured"):
        tripped(gate, PS=None, earlier={"NS": None, "requests": 4})


@pytest.mark.parametrize(
    ("gate", "fields"),
    [
        ("drift.perplexity: max 50", {"drift": {"perplexity": math.nan}}),
        ("cola.acc: min 0.5", {"tasks": {"cola": {"metric": "acc", "acc": math.nan}}}),
        ("ES: min 0", {"ES": math.nan}),
        ("cola.acc: max_drop 1 at 95 %",
         {"tasks": {"cola": {"metric": "acc", "acc": 0.5, "change": -0.1, "ci_low": math.nan, "ci_high": math.nan}}}),
    ],
)  # fmt: skip
def test_what_is_no_finite_number_trips_and_says_so(gate: str, fields: dict[str, Any]) -> None:
    (result,) = check_gates(parse_gates([gate]), step(**fields), BASELINE)
    assert result.tripped
    assert "finite" in str(result)
    json.dumps(result.to_dict(), allow_nan=False)
    assert GateResult.from_dict(result.to_dict()) == result


def test_a_sample_of_earlier_edits_counts_what_was_scored() -> None:
    earlier = {"ES": 85.0, "requests": 1000, "scored": 20}
    assert not tripped("earlier.ES: min 93 at 95 %", earlier=earlier)
    assert tripped("earlier.ES: min 93 at 95 %", earlier={**earlier, "scored": 1000})


def test_all_gates_of_a_model_that_cannot_be_scored_are_tripped() -> None:
    gates = parse_gates(["ES: min 1", "cola.mcc: max_drop 1"])
    results = broken_gates(gates, "the logits are not finite")
    assert all(result.tripped and "not finite" in str(result) for result in results)


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("cola.acc: max_drop 5", "share"),
        ("ES: min 900", "100"),
        ("earlier.GE: min 500", "newest"),
        ("GE of earlier edits: min 500", "newest"),
        ({"metric": "ES", "min": float("nan")}, "number"),
        ({"metric": "ES", "min": True}, "number"),
        ({"metric": "ES", "min": 1, "level": 95}, "9500 %"),
        ("drift.weight_norm: max_drop 1", "write max"),
        ("GE: max_drop 10", "no texts"),
        ("ES: min 1e400", "number"),
    ],
)
def test_a_gate_that_could_never_be_checked_is_refused_with_the_reason(written: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        parse_gates([written])
