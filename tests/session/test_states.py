"""Scores belong to a state: whoever asks for them asks by the active entries, not by an entry's id or position."""

from __future__ import annotations

import copy
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import delete

from evals.scores.counterfact import score_records
from evals.tasks.tasks import LoadedTasks, evaluate_tasks, load_tasks
from ledger import Ledger
from ledger.database.schema import Scores
from seqedit.facts.requests import Record, Request
from seqedit.methods import get_method
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.second_moments import SecondMoments
from seqedit.moments.store import read_second_moments
from seqedit.scoring import evaluator as evaluation
from seqedit.scoring.evaluator import Batch, Evaluator
from seqedit.scoring.kinds import KIND_FORGETTING, KIND_OUTCOMES, KIND_SCORES, KIND_TASKS
from seqedit.scoring.settings import EvalSettings
from seqedit.scoring.summary import build_summary
from seqedit.session.evaluate import measure_baseline
from seqedit.session.rebase import plan_rebase, rebase
from seqedit.session.session import Session
from seqedit.session.swap import swap
from tests.conftest import REFERENCE
from tests.evals.conftest import reference_records
from tests.runs.test_run import COLA

CONTEXTS = [["{}"]]
SETTINGS = EvalSettings(generation=False, drift=False, resamples=50, answer_tokens=1)


@pytest.fixture(scope="module")
def loaded() -> Any:
    return load_model(str(REFERENCE / "model"))


@pytest.fixture
def session(loaded: Any, tmp_path: Path) -> Iterator[Session]:
    edited = EditedModel(*loaded)
    moments = read_second_moments(REFERENCE / "second_moments.safetensors")
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        yield Session(edited, ledger, moments, context_templates=CONTEXTS)
        edited.write({})


@pytest.fixture
def evaluator(loaded: Any) -> Evaluator:
    return Evaluator(loaded[1], SETTINGS)


@pytest.fixture
def tasks(tmp_path: Path) -> LoadedTasks:
    (tmp_path / "cola.jsonl").write_text("\n".join(map(json.dumps, COLA)))
    return load_tasks(["cola"], {"cola": str(tmp_path / "cola.jsonl")})


RECORDS = reference_records("multi_layer_batch8")


def closed(**settings: Any) -> Any:
    base = {"layers": [2], "spread": "single", "steps": 5, "second_moment_weight": 50, "clamp_norm_factor": 1.5}
    return get_method("memit").config.from_dict({**base, **settings})


def trained(**settings: Any) -> Any:
    return get_method("ft").config.from_dict({"layers": [2], "steps": 3, **settings})


WEAK, STRONG = {"learning_rate": 1e-12, "steps": 1}, {"learning_rate": 0.003, "steps": 30}


class Steps:
    """Edits and scores, batch after batch."""

    def __init__(self, session: Session, evaluator: Evaluator, baseline: Any = None) -> None:
        self.session, self.evaluator, self.baseline = session, evaluator, baseline
        self.records: dict[str, list[Record]] = {}

    def edit(self, records: list[Record], method: str = "memit", config: Any = None) -> Any:
        entry = self.session.edit([r.request for r in records], method, config or closed())
        return self.score(entry, records)

    def score(self, entry: Any, records: list[Record]) -> Any:
        self.records[entry.id] = records
        self.scores = self.session.score(self.evaluator, self.records, self.baseline)
        return entry


def curve(ledger: Ledger) -> list[tuple[int, float, int]]:
    return [(p["age"], p["mean"], p["count"]) for p in build_summary(ledger)["forgetting_curve"]]


def test_a_rebase_that_reuses_entries_keeps_their_forgetting_and_ages_no_batch_by_reverts(
    session: Session, evaluator: Evaluator
) -> None:
    steps, ledger = Steps(session, evaluator), session.ledger
    steps.edit(RECORDS[:2])
    gone = steps.edit(RECORDS[2:4])
    session.revert(gone.id)
    steps.edit(RECORDS[4:6])
    steps.edit(RECORDS[6:8])
    before = build_summary(ledger)
    plan = plan_rebase(ledger)
    assert [step.action for step in plan.steps] == ["keep", "reuse", "reuse"]
    rebase(session, plan)
    after = build_summary(ledger)
    places = [0, 3, 4]  # of the steps in force, before
    assert after["forgetting"] == [[before["forgetting"][t][i] for i in places] for t in places]
    assert all(after["forgetting"][t][i] is not None for t in range(3) for i in range(t + 1))
    assert after["forgetting_curve"] == before["forgetting_curve"]
    assert [(p["age"], p["count"]) for p in after["forgetting_curve"]] == [(0, 3), (1, 2), (2, 1)]
    for entry in ledger.log()[:2]:  # under the new entries' own ids, so that they outlive the old history
        assert entry.id in ledger.scores(entry.id, KIND_FORGETTING)[KIND_FORGETTING]


def test_a_ledger_whose_rebased_rows_name_the_old_entries_is_read_by_their_adapters(
    session: Session, evaluator: Evaluator
) -> None:
    steps, ledger = Steps(session, evaluator), session.ledger
    session.revert(steps.edit(RECORDS[:2]).id)
    steps.edit(RECORDS[2:4])
    old = steps.edit(RECORDS[4:6])
    expected = [row[1:] for row in build_summary(ledger)["forgetting"][2:]]
    rows = ledger.scores(old.id, KIND_FORGETTING)[KIND_FORGETTING]
    rebase(session, plan_rebase(ledger))
    with ledger.database.write() as connection:
        connection.execute(delete(Scores).where(Scores.entry == ledger.head(), Scores.kind == KIND_FORGETTING))
    ledger.add_scores("HEAD", KIND_FORGETTING, rows)  # as earlier versions copied them
    assert [row[-2:] for row in expected][-1] == build_summary(ledger)["forgetting"][-1]


def test_scores_of_a_swap_are_not_copied_to_a_state_without_what_followed_it(
    session: Session, evaluator: Evaluator
) -> None:
    steps, ledger = Steps(session, evaluator), session.ledger
    first = steps.edit(RECORDS[:2], "ft", trained(**WEAK))
    steps.edit(RECORDS[2:4])
    steps.score(swap(session, first.id, "ft", trained(**STRONG)), RECORDS[:2])
    plan = plan_rebase(ledger)
    assert [step.action for step in plan.steps] == ["reuse", "recompute"]
    rebase(session, plan)
    assert KIND_SCORES not in ledger.scores("HEAD~1")
    assert build_summary(ledger)["forgetting"][0] == [None, None]


def test_the_new_batch_of_a_swap_is_the_swapped_one_wherever_it_composes(
    session: Session, evaluator: Evaluator
) -> None:
    steps, ledger = Steps(session, evaluator), session.ledger
    first = steps.edit(RECORDS[:4], "ft", trained(**WEAK))
    steps.edit(RECORDS[4:], "ft", trained(**WEAK))
    made = steps.score(swap(session, first.id, "ft", trained(**STRONG)), RECORDS[:4])
    model, tokenizer = session.edited.model, session.edited.tokenizer
    own, other = (score_records(model, tokenizer, part) for part in (RECORDS[:4], RECORDS[4:]))
    assert own["ES"] != other["ES"]
    step = build_summary(ledger)["steps"][-1]
    assert (step["entry"], step["ES"], step["earlier"]["ES"]) == (made.id, own["ES"], other["ES"])
    for fact, scored in zip(step["facts"], own.records, strict=True):
        assert fact["nll_new"] == pytest.approx(scored.rewrite[0].nll_new, abs=1e-4)


def test_superseded_facts_of_a_swapped_batch_are_shown_and_do_not_count(session: Session, evaluator: Evaluator) -> None:
    steps, ledger = Steps(session, evaluator), session.ledger
    first = steps.edit(RECORDS[:2], "ft", trained(**WEAK))
    old = RECORDS[0].request
    newer = Record(Request(old.subject, old.prompt, "Norway", old.target_true, old.relation))
    steps.edit([newer], "ft", trained(**WEAK))
    steps.score(swap(session, first.id, "ft", trained(**STRONG)), RECORDS[:2])
    step = build_summary(ledger)["steps"][-1]
    alone = score_records(session.edited.model, session.edited.tokenizer, RECORDS[1:2])
    assert (step["ES"], step["PS"], step["NS"]) == (alone["ES"], alone["PS"], alone["NS"])
    assert [fact["in_force"] for fact in step["facts"]] == [False, True]
    assert step["facts"][1]["nll_new"] == pytest.approx(alone.records[0].rewrite[0].nll_new, abs=1e-4)


def test_a_revert_has_no_new_batch_and_all_that_is_in_force_is_earlier(session: Session, evaluator: Evaluator) -> None:
    steps, ledger = Steps(session, evaluator), session.ledger
    steps.edit(RECORDS[:2])
    last = steps.edit(RECORDS[2:4])
    session.revert(last.id)
    found = session.score(evaluator, steps.records, None)
    assert found.new == {}
    assert found.earlier is not None
    assert found.earlier["requests"] == 2
    step = build_summary(ledger)["steps"][-1]
    assert step["ES"] is None
    assert step["earlier"]["ES"] == build_summary(ledger)["steps"][0]["ES"]


def test_a_revert_of_everything_can_be_scored(session: Session, evaluator: Evaluator) -> None:
    steps = Steps(session, evaluator)
    session.revert(steps.edit(RECORDS[:2]).id)
    found = session.score(evaluator, steps.records, None)
    assert (found.new, found.earlier, found.by_entry) == ({}, None, {})


def test_a_step_is_compared_with_its_parents_state_which_is_measured_where_no_step_has(
    session: Session, loaded: Any, tasks: LoadedTasks, monkeypatch: Any
) -> None:
    evaluator = Evaluator(loaded[1], SETTINGS, tasks=tasks)
    steps, ledger = Steps(session, evaluator, measure_baseline(session, evaluator, RECORDS)), session.ledger
    first = steps.edit(RECORDS[:2], "ft", trained(**STRONG))
    steps.edit(RECORDS[2:4])
    session.revert(first.id)
    before = evaluate_tasks(session.edited.model, session.edited.tokenizer, tasks)["cola"]
    steps.edit(RECORDS[4:6])
    compared: list[Any] = []
    real = evaluation.task_changes

    def spy(*arguments: Any, previous: Any = None, **options: Any) -> Any:
        compared.append(previous)
        return real(*arguments, previous=previous, **options)

    monkeypatch.setattr(evaluation, "task_changes", spy)
    session.score(evaluator, steps.records, steps.baseline)
    likelihoods = [outcome.log_likelihoods for outcome in before.outcomes]
    assert [outcome.log_likelihoods for outcome in compared[0].outcomes] == likelihoods
    assert ledger.scores("HEAD~1", KIND_OUTCOMES)[KIND_OUTCOMES]["cola"]["outcomes"]  # kept beside the revert
    now = evaluate_tasks(session.edited.model, session.edited.tokenizer, tasks)["cola"]
    row = ledger.scores("HEAD", KIND_TASKS)[KIND_TASKS]["cola"]
    assert row["previous_change"] == pytest.approx(now.value - before.value)
    assert torch.equal(session.edited.parts.projections[2].matrix(), weights(session))


def weights(session: Session) -> torch.Tensor:
    name = session.edited.parts.projections[2].name
    return session.ledger.compose(session.edited.base_weights([name]))[name]


def test_a_state_that_was_measured_before_is_not_measured_again(
    session: Session, loaded: Any, tasks: LoadedTasks, monkeypatch: Any
) -> None:
    evaluator = Evaluator(loaded[1], SETTINGS, tasks=tasks)
    steps = Steps(session, evaluator, measure_baseline(session, evaluator, RECORDS))
    steps.edit(RECORDS[:2])
    session.revert(steps.edit(RECORDS[2:4]).id)
    monkeypatch.setattr(evaluator, "task_outcomes", None)  # what would measure it
    steps.edit(RECORDS[4:6])
    assert "previous_change" in steps.scores.tasks["cola"]


def test_records_that_are_made_anew_for_every_score_never_get_anothers_tokens(loaded: Any) -> None:
    evaluator = Evaluator(loaded[1], SETTINGS)
    for number in range(20):
        request = Request(f"Town {number}", "{} lies in", f"Land {number % 7}", "France", case_id=number)
        scores = evaluator.step(loaded[0], [Batch("a", [Record(request)], [0])], None)
        assert [p["prompt"] for r in scores.new["records"] for p in r["rewrite"]] == [request.text]
        del scores
        gc.collect()


def test_tokens_are_those_of_the_evaluators_tokenizer(loaded: Any) -> None:
    evaluator = Evaluator(loaded[1], SETTINGS)
    first = evaluator.tokens(RECORDS[:1])
    evaluator.tokenizer = copy.deepcopy(loaded[1])
    evaluator.tokenizer.add_tokens([RECORDS[0].request.text.split()[-1]])
    assert evaluator.tokens(RECORDS[:1]) != first


def provider(session: Session, asked: list[tuple[int, ...]]) -> Any:
    every = read_second_moments(REFERENCE / "second_moments.safetensors")

    def moments(layers: tuple[int, ...]) -> SecondMoments:
        asked.append(layers)
        names = [session.edited.parts.projections[layer].name for layer in layers]
        return SecondMoments({name: every.matrices[name] for name in names})

    return moments


def test_drift_has_the_preservation_of_every_layer_choice_in_a_fresh_session_too(
    session: Session, evaluator: Evaluator
) -> None:
    asked: list[tuple[int, ...]] = []
    session.moments = provider(session, asked)
    session.edit([RECORDS[0].request], "memit", closed(layers=[1]))
    session.edit([RECORDS[1].request], "memit", closed(layers=[2]))
    found = session.drift()
    assert all("preservation" in values for values in found["modules"].values())
    assert len(found["modules"]) == 2
    again = Session(session.edited, session.ledger, provider(session, asked), context_templates=CONTEXTS)
    assert again.drift() == found


def test_drift_of_methods_without_second_moments_does_not_measure_them(session: Session) -> None:
    asked: list[tuple[int, ...]] = []
    session.moments = provider(session, asked)
    session.edit([RECORDS[0].request], "ft", trained())
    assert "preservation" not in session.drift()
    assert asked == []


def test_a_session_that_is_given_other_second_moments_uses_them(session: Session) -> None:
    first = session.compute([RECORDS[0].request], "memit", closed())
    assert isinstance(session.moments, SecondMoments)
    session.moments = SecondMoments({name: matrix * 9 for name, matrix in session.moments.matrices.items()})
    assert session.compute([RECORDS[0].request], "memit", closed()).digest != first.digest
