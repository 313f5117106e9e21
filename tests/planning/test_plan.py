"""Planning: what is told before anything is written is what a direct computation, and the edit itself, give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ledger import Ledger
from seqedit import Session
from seqedit.editing.editor import Editor
from seqedit.editing.settings import method_config
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_keys
from seqedit.models.edited import EditedModel
from seqedit.moments.second_moments import SecondMoments
from seqedit.planning.planner import InForce, make_plan

CONTEXTS = [["{}"], ["The town said. {}", "Because of it. {}"]]
NAMES = ("Venxa Ulmigri", "Bado Holul", "Bribri Drabazor", "Olm Tarko", "Sidi Venn", "Marla Ket")
FACTS = [Request(name, "{} professionally plays the sport of", "golf") for name in NAMES]
SETTINGS: dict[str, Any] = {"layers": [1, 2], "steps": 3, "second_moment_weight": 20.0}


@pytest.fixture
def edited(llama: tuple[Any, Any]) -> EditedModel:
    return EditedModel(*llama, name="tiny")


@pytest.fixture
def moments(edited: EditedModel) -> SecondMoments:
    random = torch.Generator().manual_seed(1)
    matrices = {}
    for projection in edited.parts.projections:
        keys = torch.randn(400, projection.matrix().shape[1], generator=random)
        matrices[projection.name] = keys.T @ keys / 400
    return SecondMoments(matrices)


@pytest.fixture
def session(tmp_path: Path, edited: EditedModel, moments: SecondMoments) -> Any:
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        yield Session(edited, ledger, moments, context_templates=CONTEXTS, out=tmp_path / "out")


def _direct(edited: EditedModel, requests: list[Request], layer: int) -> torch.Tensor:
    return measure_keys(edited.model, edited.parts, edited.tokenizer, requests, CONTEXTS, [layer])[layer]


def _cosines(K: torch.Tensor, L: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    inverse = torch.linalg.inv(C)
    across = K @ inverse @ L.T
    return across / ((K @ inverse) * K).sum(1).sqrt().unsqueeze(1) / ((L @ inverse) * L).sum(1).sqrt()


def test_cosines_and_shares_are_those_of_the_formulas(edited: EditedModel, moments: SecondMoments) -> None:
    editor = Editor(edited, moments, context_templates=CONTEXTS)
    config = method_config("memit", settings=SETTINGS)
    plan = make_plan(editor, FACTS, "memit", config, batch_size=3)
    raw, solver = torch.full((6, 6), -1.0).double(), torch.full((6, 6), -1.0).double()
    for layer in (1, 2):
        name = edited.parts.projections[layer].name
        K, C = _direct(edited, FACTS, layer), 20.0 * moments.matrices[name].double()
        raw = torch.maximum(raw, _cosines(K, K, torch.eye(len(C)).double()))
        solver = torch.maximum(solver, _cosines(K, K, C))
        for batch in ([0, 1, 2], [3, 4, 5]):
            D = K[batch] @ torch.linalg.inv(C) @ K[batch].T
            M = torch.linalg.inv(D + torch.eye(3)) @ D
            for place, i in enumerate(batch):
                assert plan.facts[i].written[name] == pytest.approx(float(M[place, place]), rel=1e-6)
                q = float(D[place, place])
                assert plan.facts[i].written_alone[name] == pytest.approx(q / (q + 1), rel=1e-6)
    for i, fact in enumerate(plan.facts[:3]):
        assert fact.later is not None
        assert fact.later.cosine == pytest.approx(float(solver[i, 3:].max()), abs=1e-6)
        assert fact.later.position == 3 + int(solver[i, 3:].argmax())
        assert fact.later.raw == pytest.approx(float(raw[i, fact.later.position]), abs=1e-6)
        assert fact.in_batch is not None
        others = [j for j in range(3) if j != i]
        assert fact.in_batch.cosine == pytest.approx(float(solver[i, others].max()), abs=1e-6)
    assert all(fact.later is None for fact in plan.facts[3:])


@pytest.mark.parametrize("method", ["memit", "emmet", "rome", "alphaedit"])
def test_the_predicted_share_of_a_lone_fact_is_what_the_edit_then_writes(session: Session, method: str) -> None:
    settings: dict[str, Any] = {"layers": [1], "steps": 3}
    if method != "rome":
        settings |= {"second_moment_weight": 20.0}
    if method == "alphaedit":
        settings |= {"nullspace_threshold": 0.7}
    plan = session.plan([FACTS[0]], method, **settings)
    entry = session.edit([FACTS[0]], method, **settings)
    found = session.ledger.adapter(entry).provenance["diagnosis"]
    (name,) = plan.load
    assert plan.facts[0].written[name] == pytest.approx(found["written"][name], abs=2e-5)
    assert plan.load[name][1] == pytest.approx(found["load"][name], rel=1e-5)
    assert plan.load[name][0] == 0


def test_keys_in_force_are_compared_in_the_metric_that_protects_them(session: Session, edited: EditedModel) -> None:
    settings = {**SETTINGS, "layers": [1], "protect_earlier": True}
    session.edit(FACTS[:3], "memit", **settings)
    plan = session.plan(FACTS[3:], "memit", **settings)
    name = edited.parts.projections[1].name
    old = session.earlier_keys()[name].double()
    C = 20.0 * session.editor.moments_of([(1,)])[name].double() + old.T @ old
    expected = _cosines(_direct(edited, FACTS[3:], 1), old, C)
    for i, fact in enumerate(plan.facts):
        assert fact.in_force is not None
        assert fact.in_force.cosine == pytest.approx(float(expected[i].max()), abs=1e-5)
        assert fact.in_force.request == FACTS[int(expected[i].argmax())]
    assert plan.load[name] == pytest.approx((3 / 96, 6 / 96))


def test_planning_changes_neither_model_nor_ledger(session: Session, edited: EditedModel) -> None:
    session.edit(FACTS[:2], "memit", **SETTINGS)
    before = {p.name: p.matrix().clone() for p in edited.parts.projections}
    tip, entries = session.tip, [entry.id for entry in session.ledger.log()]
    session.plan(FACTS, "memit", batch_size=2, order="clustered", **SETTINGS)
    assert all(torch.equal(p.matrix(), before[p.name]) for p in edited.parts.projections)
    assert (session.tip, [entry.id for entry in session.ledger.log()]) == (tip, entries)


def test_an_earlier_fact_with_the_same_key_is_endangered_and_one_that_is_superseded_is_not(session: Session) -> None:
    entry = session.edit(FACTS[:2], "memit", **SETTINGS)
    near = Request(FACTS[0].subject, "{} was born in the town of", "Drabazor")
    over = replace(FACTS[1], target_new="rowing")
    plan = session.plan([near, over], "memit", danger=0.9, **SETTINGS)
    assert [(one.entry, one.request, one.by) for one in plan.endangered] == [(entry.id, FACTS[0], 0)]
    assert plan.endangered[0].cosine == pytest.approx(1, abs=0.02)
    kinds = {(pair.kind, pair.position, pair.entry) for pair in plan.pairs}
    assert kinds == {("shares a key", 0, entry.id), ("supersedes", 1, entry.id)}
    assert any("endangers" in text for text in plan.problems)


def test_keys_that_an_entry_did_not_store_are_measured(session: Session, edited: EditedModel) -> None:
    session.edit(FACTS[:2], "memit", **{**SETTINGS, "layers": [1]})
    plan = session.plan(FACTS[2:4], "memit", **{**SETTINGS, "layers": [3]})
    old, new = _direct(edited, FACTS[:2], 3), _direct(edited, FACTS[2:4], 3)
    C = 20.0 * session.editor.moments_of([(3,)])[edited.parts.projections[3].name].double()
    expected = _cosines(new, old, C).amax(1)
    for fact, cosine in zip(plan.facts, expected.tolist(), strict=True):
        assert fact.in_force is not None
        assert fact.in_force.cosine == pytest.approx(cosine, abs=1e-6)


def test_contradictions_repetitions_and_paraphrases_are_told_apart(session: Session) -> None:
    first = FACTS[0]
    said = [
        first,
        replace(first, target_new="rowing"),
        Request(first.subject, "{} is at their best when they play", "golf"),
        replace(FACTS[1], relation="P641"),
        replace(FACTS[1], relation="P641", prompt="{} is a player of"),
    ]
    plan = session.plan(said, "memit", **{**SETTINGS, "layers": [1]})
    kinds = {(pair.kind, pair.earlier, pair.position) for pair in plan.pairs}
    assert kinds == {
        ("contradicts", 0, 1),
        ("paraphrases", 0, 2),
        ("shares a key", 1, 2),
        ("repeats", 3, 4),
    }
    assert plan.pairs[0].kind == "contradicts"
    assert len(plan.problems) == 1


def test_methods_without_a_solver_have_plain_cosines_and_no_share(session: Session) -> None:
    plan = session.plan(FACTS, "ft", layers=[1], batch_size=3)
    assert plan.metric == "raw"
    assert all(fact.written == {} for fact in plan.facts)
    assert plan.facts[0].later is not None
    assert plan.facts[0].later.cosine == plan.facts[0].later.raw


def test_what_cannot_be_planned_is_said_in_one_line(session: Session) -> None:
    editor, config = session.editor, method_config("memit", settings=SETTINGS)
    for wrong, words in (({"batch_size": 0}, "batch_size must be at least 1"), ({"danger": 2.0}, "must be above 0")):
        with pytest.raises(InputError, match=words):
            make_plan(editor, FACTS, "memit", config, in_force=InForce(), **wrong)
    with pytest.raises(InputError, match="order must be file or clustered"):
        session.plan(FACTS, "memit", order="random", **SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no requests"):
        make_plan(editor, [], "memit", config)
