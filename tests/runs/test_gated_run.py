"""Gates in a run: stop, revert, retry; the ledger records it, and a resumed run takes the same path."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger import Ledger
from seqedit.cli.main import run
from seqedit.runs.config import run_config
from seqedit.scoring.kinds import KIND_GATES
from tests.runs.test_run import change, folder  # noqa: F401

ALWAYS = "ES: max 1"  # an edit that succeeds trips it


def log(folder: Path) -> list[Any]:  # noqa: F811
    with Ledger.open(folder / "out" / "ledger") as ledger:
        return ledger.log()[::-1][1:]


def summary(folder: Path) -> Any:  # noqa: F811
    return json.loads((folder / "out" / "summary.json").read_text())


def test_a_gate_that_is_kept_lets_the_run_end_and_is_recorded(folder: Path) -> None:  # noqa: F811
    assert run(["run", str(change(folder, gates=["ES: min 1", "earlier.ES: min 1"], steps=2))]) == 0
    found = summary(folder)
    assert found["stopped"] is None
    assert [gate["tripped"] for step in found["steps"] for gate in step["gates"]] == [False] * 4


def test_a_tripped_gate_stops_the_run_with_exit_code_1_and_says_why(folder: Path, capsys: Any) -> None:  # noqa: F811
    assert run(["run", str(change(folder, gates=[ALWAYS]))]) == 1
    assert "ES: max 1; found 100" in capsys.readouterr().err
    assert len(log(folder)) == 1
    assert "step 1" in summary(folder)["stopped"]
    with Ledger.open(folder / "out" / "ledger") as ledger:
        assert ledger.scores("HEAD", KIND_GATES)[KIND_GATES][ALWAYS]["tripped"]
    assert run(["run", str(folder / "run.yaml"), "--resume"]) == 1  # and stops there again
    assert len(log(folder)) == 1


def test_revert_takes_the_entry_out_and_stops_or_goes_on(folder: Path) -> None:  # noqa: F811
    assert run(["run", str(change(folder, gates=[ALWAYS], on_gate="revert"))]) == 1
    assert [e.operation for e in log(folder)] == ["edit", "revert"]
    config = change(folder, on_gate={"action": "revert", "then": "continue"}, steps=2, out="other")
    assert run(["run", str(config)]) == 0
    with Ledger.open(folder / "other" / "ledger") as ledger:
        assert [e.operation for e in ledger.log()[::-1]] == ["root", "edit", "revert", "edit", "revert"]
        assert ledger.active() == []
        assert ALWAYS in ledger.entry("HEAD").message


def test_retry_edits_the_facts_in_smaller_batches(folder: Path) -> None:  # noqa: F811
    retry = {"action": "retry", "batch_size": 1, "then": "continue"}
    assert run(["run", str(change(folder, gates=[ALWAYS], on_gate=retry, steps=1))]) == 0
    entries = log(folder)
    assert [(e.operation, len(e.requests)) for e in entries] == [
        ("edit", 2), ("revert", 0), ("edit", 1), ("revert", 0), ("edit", 1), ("revert", 0)
    ]  # fmt: skip
    assert "retry 2 of 2" in entries[4].message


def test_retry_by_another_method_that_keeps_the_gate_goes_on(folder: Path) -> None:  # noqa: F811
    weak = {"layers": [3], "learning_rate": 1e-7, "steps": 1}
    retry = {"action": "retry", "method": "ft", "settings": weak}
    assert run(["run", str(change(folder, gates=[ALWAYS], on_gate=retry, steps=2))]) == 0
    assert [(e.operation, e.method.get("name")) for e in log(folder)] == [
        ("edit", "emmet"), ("revert", None), ("edit", "ft"), ("edit", "emmet"), ("revert", None), ("edit", "ft")
    ]  # fmt: skip
    assert [e.method["name"] for e in active(folder)] == ["ft", "ft"]


def active(folder: Path) -> list[Any]:  # noqa: F811
    with Ledger.open(folder / "out" / "ledger") as ledger:
        return ledger.active()


@pytest.mark.parametrize("apart", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_run_that_was_killed_between_edit_revert_and_retry_ends_the_same(folder: Path, apart: int) -> None:  # noqa: F811
    retry = {"action": "retry", "batch_size": 1, "then": "continue"}
    config = change(folder, gates=[ALWAYS], on_gate=retry, steps=1)
    assert run(["run", str(config)]) == 0
    whole = [(e.operation, e.adapter) for e in log(folder)]
    for kept in range(1, len(whole), apart):
        with Ledger.open(folder / "out" / "ledger") as ledger:
            back = ledger.log()[::-1][kept].id
            ledger.reset(back)
        assert run(["run", str(config), "--resume"]) == 0
        assert [(e.operation, e.adapter) for e in log(folder)] == whole


def test_entries_of_another_run_are_refused(folder: Path, capsys: Any) -> None:  # noqa: F811
    assert run(["run", str(change(folder, steps=2))]) == 0
    assert run(["run", str(change(folder, gates=[ALWAYS], on_gate="revert")), "--resume"]) == 2
    assert "which tripped a gate" in capsys.readouterr().err


def test_a_gate_on_something_that_is_not_measured_is_an_error(folder: Path, capsys: Any) -> None:  # noqa: F811
    assert run(["run", str(change(folder, gates=["sst2.acc: min 0.5"], steps=1))]) == 2
    assert "sst2.acc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"on_gate": "explode"}, "explode"),
        ({"on_gate": {"acton": "stop"}}, "acton"),
        ({"on_gate": "retry"}, "smaller"),
        ({"on_gate": {"action": "retry", "batch_size": 2}}, "smaller"),
        ({"on_gate": {"action": "retry", "batch_size": "x"}}, "batch_size"),
        ({"on_gate": {"action": "retry", "method": "memmit"}}, "memit"),
        ({"on_gate": {"then": "sleep"}}, "sleep"),
        ({"gates": ["ES falls"]}, "ES falls"),
    ],
)
def test_a_wrong_gate_is_refused_before_anything_is_done(
    fields: dict[str, Any],
    named: str,
    folder: Path,  # noqa: F811
    capsys: Any,
) -> None:
    assert run(["run", str(change(folder, **fields))]) == 2
    assert named in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_drift_is_measured_after_every_step_and_grows_from_zero(folder: Path) -> None:  # noqa: F811
    (folder / "plain.txt").write_text("It rained in the morning.\nThe sport of the man is golf.\n")
    config = change(folder, steps=3, evals={"generation": False, "resamples": 100, "perplexity_text": "plain.txt"})
    assert run(["run", str(config)]) == 0
    drifts = [step["drift"] for step in summary(folder)["steps"]]
    norms = [drift["weight_norm"] for drift in drifts]
    assert 0 < norms[0] < norms[1] < norms[2]
    assert drifts[0]["memorisation"] == 0
    assert drifts[2]["memorisation"] > 0
    assert all(drift["preservation"] > 0 and drift["perplexity"] > 1 for drift in drifts)
    assert all(drift["kl"] > 0 for drift in drifts)
    assert len(drifts[0]["modules"]) == 2


def test_the_configuration_knows_the_gates_of_the_issue(tmp_path: Path) -> None:
    data = yaml.safe_load(
        "{model: m, facts: f, method: memit, preset: gpt2-xl, out: o, "
        "gates: {'cola.mcc': max_drop 0.05 at 95 %, ES of earlier edits: min 90}}"
    )
    gates = run_config(data, tmp_path).gates
    assert [gate.name for gate in gates] == ["cola.mcc: max_drop 0.05 at 95 %", "earlier.ES: min 90"]


def test_a_sample_of_the_earlier_edits_has_intervals_and_says_how_many_it_scored(folder: Path) -> None:  # noqa: F811
    evals = {"generation": False, "resamples": 100, "earlier_records": 4}
    assert run(["run", str(change(folder, steps=4, evals=evals))]) == 0
    earlier = [step["earlier"] for step in summary(folder)["steps"]]
    assert [e["scored"] for e in earlier[1:]] == [2, 4, 4]
    assert [e["requests"] for e in earlier[1:]] == [2, 4, 6]
    low, high = earlier[3]["intervals"]["ES"]
    assert low <= earlier[3]["ES"] <= high


def test_every_task_is_compared_with_the_unedited_model_and_with_the_step_before(folder: Path) -> None:  # noqa: F811
    assert run(["run", str(change(folder, steps=3))]) == 0
    rows = [step["tasks"]["cola"] for step in summary(folder)["steps"]]
    for before, row in itertools.pairwise(rows):
        assert row["previous_change"] == pytest.approx(row["mcc"] - before["mcc"])
        assert row["previous_ci_low"] <= row["previous_change"] <= row["previous_ci_high"]
    assert rows[0]["previous_change"] == rows[0]["change"]


def null(folder: Path, **fields: Any) -> Path:  # noqa: F811
    """A run of edits that do nothing."""
    return change(folder, method="ft", settings={"layers": [3], "learning_rate": 1e-12, "steps": 1}, **fields)


def test_a_drop_is_one_from_the_unedited_model_on_the_records_of_the_batch(folder: Path) -> None:  # noqa: F811
    """The batches differ in what the unedited model makes of them; an edit that does nothing drops none of them."""
    kinds = ("ES", "NS", "S", "EM", "earlier.ES", "earlier.NS", "earlier.S")
    gates = [f"{metric}: {kind} 0{level}" for metric in kinds for kind in ("max_drop", "max_rise")
             for level in ("", " at 95 %")]  # fmt: skip
    facts = json.loads((folder / "facts.json").read_text())
    for fact in facts[:4]:
        rewrite = fact["requested_rewrite"]
        rewrite["target_new"], rewrite["target_true"] = rewrite["target_true"], rewrite["target_new"]
    (folder / "facts.json").write_text(json.dumps(facts))
    assert run(["run", str(null(folder, gates=gates))]) == 0
    found = summary(folder)
    by_step = [{gate["gate"]: gate for gate in step["gates"]} for step in found["steps"]]
    assert [step["ES"] for step in found["steps"]] == [100, 100, 0, 0]
    assert found["baseline"]["counterfact"]["ES"] == 50
    for step in by_step[1:]:
        for gate in gates:
            assert step[gate]["value"] == pytest.approx(0, abs=1e-9)
            assert (step[gate]["bound"] is None) == ("at" not in gate)


def test_a_level_on_scores_is_that_of_a_paired_interval_and_survives_resuming(folder: Path) -> None:  # noqa: F811
    gates = ["NS: max_drop 0 at 60 %", "NS: max_drop 0 at 99 %", "GE: min 0 at 95 %", "earlier.ES: min 1 at 80 %"]
    assert run(["run", str(change(folder, gates=gates, steps=2))]) == 0
    first = [{gate["gate"]: gate for gate in step["gates"]} for step in summary(folder)["steps"]]
    assert first[0][gates[0]]["bound"] < first[0][gates[1]]["bound"]
    assert all(gate["bound"] is not None for gate in first[1].values())
    with Ledger.open(folder / "out" / "ledger") as ledger:
        kept = ledger.scores("HEAD", KIND_GATES)[KIND_GATES]
    assert run(["run", str(change(folder, gates=gates, steps=3)), "--resume"]) == 0
    assert [{gate["gate"]: gate for gate in step["gates"]} for step in summary(folder)["steps"]][:2] == first
    assert kept == first[1]


def test_a_resumed_run_keeps_to_what_it_decided(folder: Path) -> None:  # noqa: F811
    """Verdicts are in the ledger, so what follows an entry follows from them whoever reads it."""
    config = change(folder, gates=["ES: min 1"], on_gate={"action": "revert", "then": "continue"}, steps=2)
    assert run(["run", str(config)]) == 0
    with Ledger.open(folder / "out" / "ledger") as ledger:
        first = ledger.log()[-2].id
        other = {"gate": "ES: min 1", "value": 0.5, "bound": None, "tripped": False}
        ledger.add_scores(first, KIND_GATES, {"ES: min 1": other})
    assert run(["run", str(config), "--resume"]) == 0
    assert summary(folder)["steps"][0]["gates"] == [other]


def test_facts_that_cannot_tell_a_gates_score_are_refused_before_anything_is_edited(
    folder: Path,  # noqa: F811
    capsys: Any,
) -> None:
    facts = json.loads((folder / "facts.json").read_text())
    plain = [
        {"subject": f["requested_rewrite"]["subject"], "prompt": f["requested_rewrite"]["prompt"],
         "target_new": f["requested_rewrite"]["target_new"]["str"]} for f in facts
    ]  # fmt: skip
    (folder / "plain.jsonl").write_text("\n".join(map(json.dumps, plain)))
    for gate in ("ES: min 90", "ES of earlier edits: min 90", "PS: max_drop 5", "NM: min 1", "S: min 1", "RS: min 1"):
        assert run(["run", str(change(folder, facts="plain.jsonl", gates=[gate]))]) == 2
        said = capsys.readouterr().err
        assert "batch 1" in said
        assert gate.split(":")[0].split()[0] in said
        assert not (folder / "out" / "ledger").exists()
    assert run(["run", str(change(folder, facts="plain.jsonl", gates=["EM: min 0", "ET: min 0"], steps=1))]) == 0


@pytest.mark.parametrize(
    ("gate", "evals"),
    [
        ("GE: min 1", {"generation": False}),
        ("RS: min 1 at 95 %", {"generation": False}),
        ("drift.perplexity: max 50", {}),
        ("drift.nll: max_rise 1", {}),
        ("drift.kl: max 0.1", {}),
        ("drift.kl: max_rise 0.1", {"perplexity_text": "facts.json"}),
        ("drift.weight_norm: max 1", {"drift": False}),
        ("ES: min 1", {"counterfact": False}),
        ("drift.perplexity: max 50 at 95 %", {"perplexity_text": "facts.json"}),
        ("cola.mcc: max_drop 5", {}),
        ("GE: min 500 at 95 %", {"generation_records": 1}),
        ("cola.f1: min 0.1", {}),
        ("sst2.acc: min 0.1", {}),
    ],
)
def test_a_gate_on_what_this_run_does_not_measure_is_refused_before_anything_is_edited(
    gate: str,
    evals: dict[str, Any],
    folder: Path,  # noqa: F811
    capsys: Any,
) -> None:
    assert run(["run", str(change(folder, gates=[gate], evals=evals))]) == 2
    assert gate in capsys.readouterr().err
    assert not (folder / "out" / "ledger").exists() or log(folder) == []


def test_perplexity_may_rise_by_so_much_from_the_unedited_model(folder: Path) -> None:  # noqa: F811
    (folder / "plain.txt").write_text("It rained in the morning.\nThe sport of the man is golf.\n")
    evals = {"generation": False, "resamples": 100, "perplexity_text": "plain.txt"}
    gates = ["drift.perplexity: max_rise 1e6", "drift.nll: max_drop 5", "drift.nll: max_rise 5"]
    assert run(["run", str(null(folder, gates=gates, evals=evals, steps=1))]) == 0
    found = {gate["gate"]: gate["value"] for gate in summary(folder)["steps"][0]["gates"]}
    assert found["drift.nll: max_rise 5"] == pytest.approx(0, abs=1e-5)
    assert found["drift.nll: max_drop 5"] == pytest.approx(0, abs=1e-5)


def test_a_run_is_held_against_its_batches_diagnosis(folder: Path, capsys: Any) -> None:  # noqa: F811
    kept = {"converged": {"min": 0.0}, "written": {"min": 0.01}}
    assert run(["run", str(change(folder, gates=kept, steps=1))]) == 0
    said = capsys.readouterr().out
    (step,) = summary(folder)["steps"]
    found = step["diagnosis"]
    assert [gate["value"] for gate in step["gates"]] == [
        found["converged"] / found["requests"], min(found["written"].values()),
    ]  # fmt: skip
    assert f"{found['converged']} of {found['requests']} target values converged" in said
    assert "Diagnosis</summary>" in (folder / "out" / "report.html").read_text()
    assert run(["run", str(change(folder, gates={"written": {"max": 0.001}}, steps=1, out="b"))]) == 1
    assert "written: max 0.001; found 0." in capsys.readouterr().err


@pytest.mark.parametrize("what", ["method", "retry"])
def test_a_gate_on_the_diagnosis_of_a_trained_method_is_refused_before_the_run(
    folder: Path,  # noqa: F811
    what: str,
    capsys: Any,
) -> None:
    config = change(folder, gates={"converged": {"min": 0.9}})
    data = yaml.safe_load(config.read_text())
    trained = {"method": "ft", "settings": {"layers": [1], "learning_rate": 0.001, "steps": 2}}
    data |= trained if what == "method" else {"on_gate": {"action": "retry", **trained}}
    config.write_text(yaml.safe_dump(data))
    assert run(["run", str(config)]) == 2
    assert "method 'ft' has no target values" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_a_run_may_be_gated_on_the_divergence_from_the_unedited_model(folder: Path) -> None:  # noqa: F811
    (folder / "plain.txt").write_text("It rained in the morning.\nThe sport of the man is golf.\n")
    evals = {"generation": False, "resamples": 100, "perplexity_text": "plain.txt"}
    gates = ["drift.kl: max 1e-9"]
    assert run(["run", str(change(folder, gates=gates, evals=evals, steps=1, out="other"))]) == 1
    assert run(["run", str(null(folder, gates=gates, evals=evals, steps=1, out="second"))]) == 0


def test_weighted_f1_of_a_task_may_be_gated(folder: Path, capsys: Any, caplog: Any) -> None:  # noqa: F811
    rows = [{"sentence": f"The film number {i} is fine", "label": i % 2, "idx": i} for i in range(6)]
    (folder / "sst2.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = {"sst2": "sst2.jsonl"}
    gates = ["sst2.f1_weighted: max_drop 0.05", "sst2.f1_weighted: max_drop 0.05 at 95 %"]
    with caplog.at_level("WARNING"):
        assert run(["run", str(null(folder, gates=gates, tasks=tasks, steps=2))]) == 0
    found = summary(folder)
    chance = found["baseline"]["sst2"]["chance"]
    assert (chance["metric"], chance["chance"], chance["told"]) == ("acc", 0.5, False)
    assert found["baseline"]["sst2"]["acc"] == chance["value"]
    for step in found["steps"]:
        row = step["tasks"]["sst2"]
        assert row["f1_weighted"] == pytest.approx(found["baseline"]["sst2"]["f1_weighted"])
        assert (row["f1_weighted_change"], row["f1_weighted_ci_low"], row["f1_weighted_ci_high"]) == (0, 0, 0)
        assert not any(gate["tripped"] for gate in step["gates"])
    said = [record.getMessage() for record in caplog.records if "cannot be told from chance" in record.getMessage()]
    assert len(said) == 1  # of the run, not of each step
    assert "'sst2'" in said[0]
    assert "Not above chance" in (folder / "out" / "report.html").read_text()
    place = ["--task", f"sst2={folder / 'sst2.jsonl'}", "--ledger", str(folder / "out" / "ledger")]
    capsys.readouterr()
    assert run(["eval", *place, "--gate", "sst2.f1_weighted: min 1", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["baseline"]["sst2"]["chance"] == chance
    assert run(["eval", *place, "--gate", "sst2.chance: min 1"]) == 2
    assert "sst2.chance" in capsys.readouterr().err
    assert run(["bisect", "sst2.f1_weighted", *place, "--below", "1.5"]) == 2  # the unedited model's is below, too
    assert f"sst2.f1_weighted {row['f1_weighted']:.4f}  (from the ledger)" in capsys.readouterr().err
