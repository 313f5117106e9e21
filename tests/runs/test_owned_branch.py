"""A session, and so a run, owns the branch it extends: others may move HEAD, and whoever moves the branch stops it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ledger import BranchMoved, Conflict, Ledger
from seqedit.cli.main import run
from seqedit.editing.settings import method_config
from seqedit.facts.layouts import to_record
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.store import read_second_moments
from seqedit.scoring.evaluator import Evaluator
from seqedit.scoring.kinds import KIND_SCORES
from seqedit.scoring.settings import EvalSettings
from seqedit.session.merge import merge
from seqedit.session.rebase import plan_rebase, rebase
from seqedit.session.session import Session
from seqedit.session.swap import swap
from tests.conftest import REFERENCE

CONTEXTS = [["{}"], ["It rained. {}"]]
RECORDS = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
REQUESTS = [to_record(row, "case.json").request for row in RECORDS]
SETTINGS = {"layers": [1], "steps": 3, "second_moment_weight": 50, "clamp_norm_factor": 1.5, "weight_decay": 0.001}


def config(method: str = "memit") -> Any:
    return method_config(method, settings=SETTINGS)


@pytest.fixture(scope="module")
def model() -> EditedModel:
    return EditedModel(*load_model(str(REFERENCE / "model")))


@pytest.fixture
def session(model: EditedModel, tmp_path: Path) -> Iterator[Session]:
    """A session on ``main`` with two batches, of which the second is its tip."""
    model.write({})
    moments = read_second_moments(REFERENCE / "second_moments.safetensors")
    with Ledger.create(tmp_path / "ledger", model.base_model) as ledger:
        made = Session(model, ledger, moments, context_templates=CONTEXTS)
        for batch in (REQUESTS[:2], REQUESTS[2:4]):
            made.edit(batch, "memit", config())
        yield made


@pytest.fixture
def other(session: Session, tmp_path: Path) -> Iterator[Ledger]:
    """A second writer's view of the ledger."""
    with Ledger.open(tmp_path / "ledger") as opened:
        yield opened


def weights(session: Session) -> dict[str, torch.Tensor]:
    return {p.name: p.matrix().clone() for p in session.edited.parts.projections}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


VERBS = {
    "edit": lambda s: s.edit(REQUESTS[4:6], "memit", config()),
    "revert": lambda s: s.revert("HEAD~1"),
    "swap": lambda s: swap(s, "HEAD~1", "emmet", config("emmet")),
    "merge by sum": lambda s: merge(s, s.ledger, ["HEAD~1", "HEAD"], "sum"),
    "merge by solve": lambda s: merge(s, s.ledger, ["HEAD~1", "HEAD"], "solve"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_who_checks_out_another_branch_does_not_move_the_session(session: Session, other: Ledger, verb: str) -> None:
    old = session.tip
    other.start_branch("side", "HEAD~1")
    other.switch("side")
    there = other.branches()["side"]
    entry = VERBS[verb](session)
    assert other.branches() == {"main": entry.id, "side": there}
    assert entry.parents[0] == old
    assert session.tip == entry.id
    after = weights(session)
    session.restore()
    assert same(after, weights(session))


@pytest.mark.parametrize("verb", VERBS)
def test_a_branch_that_head_is_switched_to_at_the_same_entry_is_not_extended(
    session: Session, other: Ledger, verb: str
) -> None:
    other.start_branch("side")  # parents alone could not tell the two apart
    other.switch("side")
    there = session.tip
    entry = VERBS[verb](session)
    assert other.branches() == {"main": entry.id, "side": there}


@pytest.mark.parametrize("how", ["entry", "reset", "deleted"])
@pytest.mark.parametrize("verb", VERBS)
def test_who_moves_the_branch_stops_the_session_and_loses_nothing(
    session: Session, other: Ledger, verb: str, how: str
) -> None:
    before, tip = weights(session), session.tip
    if how == "entry":
        other.revert("HEAD~1")
    elif how == "reset":
        other.reset("HEAD~1")
    else:
        other.start_branch("side")
        other.switch("side")
        other.delete_branch("main")
    left = other.branches()
    with pytest.raises(BranchMoved, match="moved under this session") as caught:
        VERBS[verb](session)
    assert isinstance(caught.value, Conflict)
    assert caught.value.exit_code == 3
    assert other.branches() == left
    assert (session.tip, session.branch) == (tip, "main")
    assert same(weights(session), before)
    if how != "deleted":
        session.checkout()  # takes up where the branch is now
        assert session.tip == left["main"]
        entry = session.edit(REQUESTS[4:6], "memit", config())
        assert entry.parents[0] == left["main"]


def test_a_move_while_a_batch_is_computed_is_found_when_it_is_appended(
    session: Session, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, compute = weights(session), session.compute

    def slow(*arguments: Any) -> Any:
        adapter = compute(*arguments)
        other.revert("HEAD")
        return adapter

    monkeypatch.setattr(session, "compute", slow)
    with pytest.raises(BranchMoved):
        session.edit(REQUESTS[4:6], "memit", config())
    assert len(other.log()) == 4
    assert same(weights(session), before)


def test_a_batch_is_computed_on_the_state_that_is_recorded_whatever_was_looked_at(session: Session) -> None:
    batch = REQUESTS[4:6]
    expected = session.compute(batch, "memit", config()).digest
    session.checkout("HEAD~2")
    assert session.compute(batch, "memit", config()).digest == expected
    session.checkout("HEAD~2")
    assert session.edit(batch, "memit", config()).adapter == expected


def test_scores_are_those_of_the_state_that_was_scored_wherever_head_is_now(session: Session, other: Ledger) -> None:
    other.start_branch("side", "HEAD~2")
    other.switch("side")
    there = other.branches()["side"]
    evaluator = Evaluator(session.edited.tokenizer, EvalSettings(generation=False, task_documents=None))
    session.score(evaluator, {}, None)
    assert session.is_scored(session.tip)
    assert other.scores(there, KIND_SCORES) == {}


def test_a_rebase_moves_its_own_branch_and_that_only_where_nobody_else_did(session: Session, other: Ledger) -> None:
    plan = plan_rebase(session.ledger, order=["HEAD", "HEAD~1"])
    moved = other.revert("HEAD").id
    with pytest.raises(BranchMoved):
        rebase(session, plan)
    assert other.branches() == {"main": moved}
    other.undo()
    after = []
    with pytest.raises(BranchMoved):
        rebase(session, plan, on_step=lambda step, new: after or after.append(other.revert("HEAD")))
    assert other.branches()["main"] == after[0].id
    other.undo()
    other.start_branch("side")
    other.switch("side")
    tip = rebase(session, plan, resume=True)
    assert other.branches() == {"main": tip, "side": plan.head}
    assert session.tip == tip


def test_a_revert_by_relative_name_lands_on_the_branch_that_named_it(
    session: Session, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = session.ledger
    other.start_branch("side")
    revert_of = ledger._revert_of

    def meanwhile(*arguments: Any) -> Any:
        other.switch("side")
        return revert_of(*arguments)

    monkeypatch.setattr(ledger, "_revert_of", meanwhile)
    entry = ledger.revert("HEAD~1")
    assert ledger.branches()["main"] == entry.id
    assert ledger.branches()["side"] == entry.parents[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "facts.json").write_text(json.dumps(RECORDS))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({
        "model": str(REFERENCE / "model"), "facts": "facts.json", "method": "memit", "batch_size": 2, "out": "out",
        "settings": SETTINGS, "second_moments": {"file": str(REFERENCE / "second_moments.safetensors")},
        "context_templates": CONTEXTS, "evals": {"generation": False, "resamples": 100},
    }))  # fmt: skip
    return tmp_path


def after_scoring(monkeypatch: pytest.MonkeyPatch, step: int, act: Any) -> None:
    """Let a second writer act as soon as a run has scored a step."""
    score, done = Session.score, []

    def scored(self: Session, *arguments: Any) -> Any:
        result = score(self, *arguments)
        done.append(self.tip)
        if len(done) == step:
            with Ledger.open(Path(self.ledger.database.file).parent) as second:  # type: ignore[arg-type]
                act(second)
        return result

    monkeypatch.setattr(Session, "score", scored)


def test_a_run_stays_on_its_branch_when_another_is_checked_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def checkout(second: Ledger) -> None:
        second.start_branch("side")
        second.switch("side")

    after_scoring(monkeypatch, 2, checkout)
    assert run(["run", str(folder / "run.yaml")]) == 0
    summary = json.loads((folder / "out" / "summary.json").read_text())
    with Ledger.open(folder / "out" / "ledger") as ledger:
        assert len(ledger.log("main")) == 5
        assert len(ledger.log("side")) == 3
        assert [step["entry"] for step in summary["steps"]] == [e.id for e in ledger.log("main")][-2::-1]
        assert all("earlier" in ledger.scores(e.id, KIND_SCORES)[KIND_SCORES] for e in ledger.log("main"))


@pytest.mark.parametrize("act", [lambda x: x.revert("HEAD~1"), lambda x: x.reset("HEAD~1")], ids=["entry", "reset"])
def test_a_run_whose_branch_moved_ends_with_exit_code_3_and_resumes_once_it_is_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, act: Any
) -> None:
    with monkeypatch.context() as patch:
        after_scoring(patch, 2, act)
        assert run(["run", str(folder / "run.yaml")]) == 3
    said = capsys.readouterr().err
    assert "branch 'main' moved under this session" in said
    assert "--resume" in said
    place = str(folder / "out" / "ledger")
    with Ledger.open(place) as ledger:
        assert len(ledger.log()) in (2, 4), "the two batches and the other's revert, or what the other's reset left"
        assert ledger.verify() == []
    assert run(["undo", "--ledger", place]) == 0
    assert run(["run", str(folder / "run.yaml"), "--resume"]) == 0
    with Ledger.open(place) as ledger:
        assert [e.operation for e in ledger.log()] == ["edit"] * 4 + ["root"]
        resumed = [e.adapter for e in ledger.log()]
        assert ledger.verify() == []
    undisturbed = folder / "undisturbed"
    (folder / "run.yaml").write_text((folder / "run.yaml").read_text() + f"ledger: {undisturbed}\n")
    assert run(["run", str(folder / "run.yaml")]) == 0
    with Ledger.open(undisturbed) as ledger:
        assert [e.adapter for e in ledger.log()] == resumed
