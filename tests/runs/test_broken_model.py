"""A model that overflowed: a failed step with its reason, a tripped gate, and a ledger that can be used on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from evals.gates import parse_gates
from evals.likelihood.decoding import generate
from evals.likelihood.perplexity import score_perplexity
from evals.scores.counterfact import score_records
from evals.tasks.tasks import evaluate_tasks, load_tasks
from ledger import Ledger
from seqedit.cli.main import run as command
from seqedit.comparing.compare import compare
from seqedit.comparing.compare_config import read_compare_config
from seqedit.errors import NumericsError
from seqedit.facts.loading import load_records
from seqedit.forward.access import output_head
from seqedit.keys.templates import sample_context_templates
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.runs.config import read_run_config
from seqedit.runs.runner import run
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.gate_evidence import KIND_FAILURE
from seqedit.scoring.settings import EvalSettings
from seqedit.session.evaluate import evaluate_state
from seqedit.session.session import Session
from tests.conftest import REFERENCE
from tests.runs.test_compare import METHODS
from tests.runs.test_compare import write as write_comparison_config
from tests.runs.test_run import change, folder  # noqa: F401

MODEL = str(REFERENCE / "model")


@contextmanager
def broken(model: Any, value: float = float("nan")) -> Iterator[None]:
    """While open the model's hidden states are what overflowed activations are."""
    handle = output_head(model).register_forward_pre_hook(lambda module, args: (args[0] * value, *args[1:]))
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture
def edited() -> EditedModel:
    return EditedModel(*load_model(MODEL))


def entries(folder: Path) -> list[Any]:  # noqa: F811
    with Ledger.open(folder / "out" / "ledger") as ledger:
        return ledger.log()[::-1][1:]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_every_measurement_of_a_broken_model_is_an_error_not_a_score(
    edited: EditedModel,
    value: float,
    folder: Path,  # noqa: F811
) -> None:
    model, tokenizer = edited.model, edited.tokenizer
    tasks = load_tasks(["cola"], {"cola": folder / "cola.jsonl"})
    with broken(model, value):
        for measured in (
            lambda: score_records(model, tokenizer, load_records(folder / "facts.json")[:2]),
            lambda: score_perplexity(model, tokenizer, ["It rained in the morning."]),
            lambda: generate(model, tokenizer, ["It rained"], max_new_tokens=3),
            lambda: evaluate_tasks(model, tokenizer, tasks),
            lambda: sample_context_templates(model, tokenizer, seed=0),
        ):
            with pytest.raises(NumericsError, match="not finite"):
                measured()


@contextmanager
def broken_later(edited: EditedModel) -> Iterator[None]:
    """While open the model is broken whenever its weights are not the unedited ones."""
    base = edited.base_weights([p.name for p in edited.parts.projections])

    def spoil(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        same = all(torch.equal(p.matrix(), base[p.name]) for p in edited.parts.projections)
        return args if same else (args[0] * float("nan"), *args[1:])

    handle = output_head(edited.model).register_forward_pre_hook(spoil)
    try:
        yield
    finally:
        handle.remove()


def test_a_step_that_breaks_the_model_fails_with_its_reason_and_the_run_resumes_once_the_cause_is_gone(
    edited: EditedModel,
    folder: Path,  # noqa: F811
) -> None:
    config = read_run_config(change(folder, steps=2))
    with broken_later(edited), pytest.raises(NumericsError, match=r"step 1.*not finite.*--resume"):
        run(config, edited=edited)
    assert len(entries(folder)) == 1
    with Ledger.open(folder / "out" / "ledger") as ledger:
        assert "not finite" in ledger.scores("HEAD", KIND_FAILURE)[KIND_FAILURE]["reason"]
        assert not ledger.verify()
    with broken_later(edited), pytest.raises(NumericsError, match=r"step 1.*not finite"):
        run(config, edited=edited, resume=True)
    found = run(config, edited=edited, resume=True)
    assert found["stopped"] is None
    assert [step["ES"] for step in found["steps"]] == [100, 100]
    assert [step["failure"] for step in found["steps"]] == [None, None]


def test_a_broken_step_can_be_reverted(edited: EditedModel, folder: Path) -> None:  # noqa: F811
    with broken_later(edited), pytest.raises(NumericsError):
        run(read_run_config(change(folder, steps=1)), edited=edited)
    assert command(["revert", "HEAD", "--ledger", str(folder / "out" / "ledger")]) == 0
    assert command(["verify", "--ledger", str(folder / "out" / "ledger")]) == 0


def test_a_broken_step_trips_every_gate_and_is_reverted(edited: EditedModel, folder: Path) -> None:  # noqa: F811
    gates = ["ES: max 100", "cola.mcc: max_drop 1 at 95 %"]  # which nothing else can trip
    config = read_run_config(change(folder, gates=gates, on_gate={"action": "revert", "then": "continue"}, steps=2))
    with broken_later(edited):
        found = run(config, edited=edited)
        assert found["stopped"] is None
        again = run(config, edited=edited, resume=True)
    operations = [entry.operation for entry in entries(folder)]
    assert operations == ["edit", "revert"] * 2
    for step in (found["steps"][0], again["steps"][2]):
        assert "not finite" in (step["failure"] or "")
        assert [gate["tripped"] for gate in step["gates"]] == [True, True]
        assert all("not finite" in gate["reason"] for gate in step["gates"])
        assert step["ES"] is None
    assert [s["gates"] for s in again["steps"]] == [s["gates"] for s in found["steps"]]
    text = (folder / "out" / "summary.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_a_run_stopped_by_a_broken_model_says_why(edited: EditedModel, folder: Path) -> None:  # noqa: F811
    with broken_later(edited):
        found = run(read_run_config(change(folder, gates=["ES: min 1"])), edited=edited)
    assert "not finite" in (found["stopped"] or "")
    assert len(entries(folder)) == 1


def test_a_state_that_cannot_be_scored_keeps_no_gate(edited: EditedModel, folder: Path) -> None:  # noqa: F811
    run(read_run_config(change(folder, steps=1)), edited=edited)
    records = load_records(folder / "facts.json")
    with Ledger.open(folder / "out" / "ledger", edited.base_model) as ledger:
        session = Session(edited, ledger, None, context_templates=[["{}"]])
        evaluator = Evaluator(edited.tokenizer, EvalSettings(generation=False))
        with broken_later(edited):
            found = evaluate_state(session, evaluator, records=records, gates=parse_gates(["ES: max 100"]))
            assert [gate.tripped for gate in found.gates] == [True]
            assert "not finite" in str(found.failure)
            with pytest.raises(NumericsError, match="not finite"):
                evaluate_state(session, evaluator, records=records)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with NaN in its weights."""
    place = tmp_path_factory.mktemp("spoiled") / "model"
    model, tokenizer = load_model(MODEL)[:2]
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(float("nan"))
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_a_model_whose_weights_are_broken_is_said_to_be_by_score_and_run(
    spoiled: Path,
    folder: Path,  # noqa: F811
    capsys: Any,
) -> None:
    assert command(["score", "--model", str(spoiled), "--records", str(folder / "facts.json"), "--json"]) == 2
    said = capsys.readouterr()
    assert "NaN or infinity in" in said.err
    assert said.out == ""
    assert command(["run", str(change(folder, model=str(spoiled)))]) == 2
    assert "NaN or infinity in" in capsys.readouterr().err
    assert not (folder / "out" / "ledger").exists()


@pytest.mark.parametrize("independent", [False, True])
def test_a_method_that_breaks_the_model_is_a_row_that_says_so(
    edited: EditedModel, tmp_path: Path, independent: bool
) -> None:
    path = write_comparison_config(
        tmp_path, methods={"memit": METHODS["memit"]}, independent=independent, evals={"generation": False}
    )
    given = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({name: value for name, value in given.items() if name != "tasks"}))
    with broken_later(edited):
        rows = compare(read_compare_config(path), edited=edited)
    assert [row.label for row in rows] == ["unedited", "memit"]
    text = (tmp_path / "out" / "comparison.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    if independent:  # every batch failed, and is scored on the unedited model
        assert rows[1].note == "2 of 2 batches could not be computed"
        assert rows[1].cells["ES"].value == rows[0].cells["ES"].value
    else:
        assert rows[1].note.startswith("broke off: ")
        assert "not finite" in rows[1].note
        assert all(cell.value is None for cell in rows[1].cells.values())
