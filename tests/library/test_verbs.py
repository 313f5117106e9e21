"""Every operation of the command line is one of the Python API: a method, a function, or named here with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import seqedit
import seqedit.cli.main
from ledger import Ledger
from ledger.bundles.import_bundle import Diverged
from ledger.bundles.write import plan_bundle, write_bundle
from seqedit import BranchMoved, EditedModel, Session
from seqedit.adapters.delta import LowRank
from seqedit.cli.app import app
from seqedit.models.loading import load_model
from tests.conftest import REFERENCE
from tests.ledger.helpers import build_adapter

OPERATIONS: dict[str, Callable[..., Any]] = {
    "init": Session.from_pretrained,
    "edit": Session.edit,
    "add": Ledger.append,
    "plan": Session.plan,
    "eval": Session.evaluate,
    "swap": Session.swap,
    "merge": Session.merge,
    "rebase": Session.rebase,
    "reorder": Session.reorder,
    "revert": Session.revert,
    "cherry-pick": Session.cherry_pick,
    "undo": Session.undo,
    "log": Session.log,
    "show": Ledger.entry,
    "blame": Session.blame,
    "diff": Session.diff,
    "bisect": Session.bisect,
    "branch": Session.branches,
    "tag": Session.tag,
    "status": Session.status,
    "checkout": Session.switch,
    "reset": Ledger.reset,
    "reflog": Ledger.moves,
    "export": Session.export,
    "import": Session.import_bundle,
    "push": Session.push_to_hub,
    "pull": Session.pull,
    "report": Session.report,
    "verify": Ledger.verify,
    "gc": Ledger.gc,
    "sign": Ledger.sign,
    "signers": Ledger.keep_signers,
    "run": seqedit.run,
    "tune": Session.tune,
}
WITHOUT = {
    "audit": "works on an unedited model and an adapter's folder, without a ledger: seqedit.leakage",
    "benchmark": "works on an unedited model or on adapters, without a session: seqedit.comparing.case_sets",
    "config": "what the command line takes where an option is not given: Ledger.defaults and set_defaults",
    "compare": "runs several jobs beside each other: seqedit.comparing.compare",
    "demo": "shows the command line itself",
    "locate": "works on the unedited model, without a ledger: seqedit.locating",
    "score": "works on a model with adapters, without a ledger: evals.score_records",
    "stats": "works on the unedited model, without a ledger: seqedit.editing.moment_stats",
    "tasks": "lists what lm-eval has: evals.tasks",
    "train-mend": "trains a hypernetwork, without a ledger: seqedit.methods.mend.training",
}


def test_every_verb_is_an_operation_of_the_python_api_or_has_a_reason_not_to_be() -> None:
    verbs = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert verbs == OPERATIONS.keys() | WITHOUT.keys()
    assert OPERATIONS.keys().isdisjoint(WITHOUT)


@pytest.mark.parametrize("verb", OPERATIONS)
def test_an_operation_is_public_and_says_what_it_does(verb: str) -> None:
    found = OPERATIONS[verb]
    assert not found.__name__.startswith("_")
    assert found.__doc__


@pytest.fixture(scope="module")
def edited() -> EditedModel:
    return EditedModel(*load_model(str(REFERENCE / "model"), device="cpu"), name="tester/base")


@pytest.fixture
def ledger(edited: EditedModel, tmp_path: Path) -> Any:
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        yield ledger


def test_a_session_takes_in_a_bundle_on_its_own_branch_and_on_another(
    edited: EditedModel, ledger: Ledger, tmp_path: Path
) -> None:
    made = ledger.revert(ledger.append(_adapter(edited, 1), message="one").id)
    file = tmp_path / "history.zip"
    write_bundle(ledger, plan_bundle(ledger, made.id), file)
    ledger.reset(ledger.root())
    session = Session(edited, ledger)
    assert session.import_bundle(file, branch="theirs").branch == "theirs"
    assert session.tip == ledger.root()
    assert session.import_bundle(file).new == session.tip == ledger.head() == made.id
    ledger.reset(ledger.root())
    with pytest.raises(BranchMoved):
        session.import_bundle(file)
    ledger.append(_adapter(edited, 2), message="two")
    session.checkout()
    with pytest.raises(Diverged):
        session.import_bundle(file)
    assert session.tip == ledger.head()


def _adapter(edited: EditedModel, seed: int) -> seqedit.Adapter:
    (projection,) = edited.parts.projections_of((1,))
    rows, columns = projection.matrix().shape
    source = build_adapter(seed)
    delta = LowRank(torch.full((rows, 1), 0.01 * seed), torch.ones(1, columns))
    return seqedit.Adapter(
        {projection.name: delta}, source.requests, source.method, edited.base_model, fan_in_fan_out=True
    )
