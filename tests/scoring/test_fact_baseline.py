"""What is measured of the unedited model is kept by what it was measured on, and what is missing is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.gates import parse_gates
from evals.scores.counterfact import score_records
from evals.scores.scores import METRICS
from ledger import Ledger
from seqedit.facts.requests import Record
from seqedit.methods import get_method
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.fact_baseline import FactBaseline
from seqedit.scoring.settings import EvalSettings
from seqedit.scoring.summary import build_summary
from seqedit.session.evaluate import evaluate_state, measure_baseline
from seqedit.session.session import Session
from tests.conftest import REFERENCE
from tests.evals.conftest import reference_records

RECORDS = reference_records("multi_layer_batch8")
SETTINGS = EvalSettings(generation=False, drift=False, answer_tokens=1)


@pytest.fixture(scope="module")
def loaded() -> Any:
    return load_model(str(REFERENCE / "model"))


@pytest.fixture
def session(loaded: Any, tmp_path: Path) -> Iterator[Session]:
    edited = EditedModel(*loaded)
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        yield Session(edited, ledger, None, context_templates=[["{}"]])
        edited.write({})


@pytest.fixture
def evaluator(loaded: Any) -> Evaluator:
    return Evaluator(loaded[1], SETTINGS)


def edit(session: Session, records: list[Record]) -> None:
    config = get_method("ft").config.from_dict({"layers": [2], "steps": 20, "learning_rate": 0.003})
    session.edit([record.request for record in records], "ft", config)


def unedited(session: Session, records: list[Record]) -> dict[str, Any]:
    session.checkout(session.ledger.root())
    scores = score_records(session.edited.model, session.edited.tokenizer, records).summary
    session.checkout()
    return scores


def test_each_evaluation_is_compared_with_the_unedited_model_on_its_own_records(
    session: Session, evaluator: Evaluator
) -> None:
    edit(session, RECORDS[:4])
    bare = [Record(record.request) for record in RECORDS[:4]]
    assert evaluate_state(session, evaluator).baseline["counterfact"] == pytest.approx(unedited(session, bare))
    found = evaluate_state(session, evaluator, records=RECORDS)  # now with paraphrases and neighbours
    assert found.baseline["counterfact"] == pytest.approx(unedited(session, RECORDS[:4]))
    assert found.baseline["counterfact"]["PS"] is not None
    edit(session, RECORDS[4:])
    found = evaluate_state(session, evaluator, records=RECORDS)
    assert found.baseline["counterfact"] == pytest.approx(unedited(session, RECORDS))
    assert set(found.baseline["counterfact"]) == set(METRICS)


def test_a_drop_is_counted_from_the_same_records_not_from_all(session: Session, evaluator: Evaluator) -> None:
    held = [  # the unedited model answers these as they are to be answered
        replace(record, request=replace(r, target_new=str(r.target_true), target_true=r.target_new))
        for record in RECORDS[:4]
        for r in [record.request]
    ]
    edit(session, held)
    edit(session, RECORDS[4:])
    gates = parse_gates([f"{place}{name}: max_drop 0" for place in ("", "earlier.") for name in ("ES", "NS")])
    found = evaluate_state(session, evaluator, records=[*held, *RECORDS[4:]], gates=gates)
    last, first = unedited(session, RECORDS[4:]), unedited(session, held)
    assert last["ES"] < first["ES"]
    step = found.step
    expected = [step["ES"] - last["ES"], step["NS"] - last["NS"]]
    expected += [step["earlier"]["ES"] - first["ES"], step["earlier"]["NS"] - first["NS"]]
    assert [gate.value for gate in found.gates] == pytest.approx(expected)


def test_only_records_that_are_missing_are_measured(session: Session, evaluator: Evaluator, monkeypatch: Any) -> None:
    measured: list[int] = []
    real = Evaluator.baseline

    def baseline(self: Evaluator, model: Any, records: Any, **options: Any) -> Any:
        measured.append(len(records))
        return real(self, model, records, **options)

    monkeypatch.setattr(Evaluator, "baseline", baseline)
    measure_baseline(session, evaluator, RECORDS[:4])
    measure_baseline(session, evaluator, RECORDS[:4])
    measure_baseline(session, evaluator, RECORDS[2:])
    other = replace(RECORDS[0], paraphrase_prompts=RECORDS[1].paraphrase_prompts)
    measure_baseline(session, evaluator, [other, *RECORDS[1:]])
    assert measured == [4, 4, 1]
    kept = FactBaseline(session.ledger, evaluator, RECORDS).scores()
    fresh = score_records(session.edited.model, session.edited.tokenizer, RECORDS)
    for mine, theirs in zip(kept.records, fresh.records, strict=True):
        assert [p.prompt for p in mine.neighborhood] == [p.prompt for p in theirs.neighborhood]
        assert mine.rewrite[0].nll_true == pytest.approx(theirs.rewrite[0].nll_true, abs=1e-4)
        assert mine.rewrite[0].argmax_correct == theirs.rewrite[0].argmax_correct


def test_an_evaluation_of_other_records_leaves_the_runs_baseline_as_it_is(
    session: Session, evaluator: Evaluator
) -> None:
    measure_baseline(session, evaluator, RECORDS[:4])
    before = build_summary(session.ledger)["baseline"]
    edit(session, RECORDS[4:])
    evaluate_state(session, evaluator, records=RECORDS)
    assert build_summary(session.ledger)["baseline"] == before


def test_texts_that_were_not_measured_are(session: Session, loaded: Any) -> None:
    first = Evaluator(loaded[1], SETTINGS, texts=["The sport of Bado is golf."])
    second = Evaluator(loaded[1], SETTINGS, texts=["It rained all day long."])
    found = []
    for evaluator in (first, second, first):
        measure_baseline(session, evaluator, RECORDS[:1])
        found.append(session.ledger.scores(session.ledger.root(), "drift")["drift"]["nll"])
    assert found[0] == found[2] != found[1]


def test_two_runs_of_one_ledger_each_show_the_baseline_of_their_own_facts(tmp_path: Path) -> None:
    from seqedit.runs.config import run_config
    from seqedit.runs.runner import run

    rows = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
    for name, part in (("a", rows[:2]), ("b", rows[2:4])):
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    found = {}
    for name in ("a", "b"):
        found[name] = run(run_config({
            "model": str(REFERENCE / "model"), "facts": f"{name}.json", "method": "ft", "batch_size": 2,
            "settings": {"layers": [2], "steps": 2}, "context_templates": [["{}"]], "out": name, "branch": name,
            "ledger": "ledger", "evals": {"generation": False, "answer_tokens": 1},
        }, tmp_path))["baseline"]["counterfact"]  # fmt: skip
    model, tokenizer = load_model(str(REFERENCE / "model"))[:2]
    with Ledger.open(tmp_path / "ledger") as ledger:
        for name, part in (("a", RECORDS[:2]), ("b", RECORDS[2:4])):
            alone = score_records(model, tokenizer, part).summary
            assert found[name] == pytest.approx(alone)
            assert build_summary(ledger, name)["baseline"]["counterfact"] == found[name]
