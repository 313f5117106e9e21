"""Cherry-picks, reasons and notes of rewrites on a real (small) model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ledger.errors import BranchMoved
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.history.pick import cherry_pick, plan_picks
from seqedit.scoring.kinds import KIND_DIAGNOSIS
from seqedit.scoring.summary import build_summary
from seqedit.session.merge import merge
from seqedit.session.rebase import plan_rebase, rebase
from seqedit.session.swap import swap
from tests.session.test_operations import CONTEXTS, config, requests, session, weights

__all__ = ["requests", "session"]  # fixtures


FILE = {"name": "2032-02.jsonl", "sha256": "a" * 64}


@pytest.fixture
def side(session: Any, requests: Any) -> tuple[Any, Any, Any]:
    """A session on main, and two entries of a branch: what it started from is on both."""
    ledger = session.ledger
    session.edit(requests[:1], "memit", config())
    ledger.start_branch("side")
    ledger.switch("side")
    session.checkout()
    first = session.edit(requests[1:3], "memit", config(), message="first", author="ada", facts_file=FILE)
    second = session.edit(requests[3:5], "memit", config(), message="second")
    ledger.switch("main")
    session.checkout()
    session.edit(requests[5:7], "memit", config())
    return session, first, second


def test_a_picked_delta_is_the_same_adapter_on_top_of_the_state(side: Any) -> None:
    session, first, second = side
    before = weights(session)
    made = cherry_pick(session, session.ledger, [first.id, second.id], reason="proved itself")
    assert [e.adapter for e in made] == [first.adapter, second.adapter]
    assert [e.origin for e in made] == [first.id, second.id]
    assert [e.facts_file for e in made] == [FILE, {}]
    assert [(e.message, e.author, e.reason) for e in made] == [
        ("first", "ada", "proved itself"), ("second", "", "proved itself")
    ]  # fmt: skip
    assert session.tip == session.ledger.head() == made[-1].id
    (name,) = session.ledger.adapter(first).deltas
    delta = sum(session.ledger.adapter(e).deltas[name].dense(torch.float64) for e in made)
    assert torch.allclose(weights(session)[name].double() - before[name].double(), delta, atol=1e-6)
    for entry in reversed(made):
        session.revert(entry.id)
    assert all(torch.equal(before[n], w) for n, w in weights(session).items())


def test_a_solved_pick_is_the_batch_for_its_stored_target_values_on_this_state(side: Any) -> None:
    session, first, _ = side
    ledger = session.ledger
    values = ledger.adapter(first).target_values
    expected = session.compute_on(
        ledger.active(), first.requests, "memit", config(), context_templates=CONTEXTS, target_values=values
    )
    (made,) = cherry_pick(session, ledger, [first.id], "solve", message="here")
    assert made.adapter == expected.digest != first.adapter
    assert (made.origin, made.message, made.operation) == (first.id, "here", "edit")
    assert made.facts_file == FILE
    assert ledger.scores(made.id, KIND_DIAGNOSIS)[KIND_DIAGNOSIS]["requests"] == 2


def test_what_a_later_pick_teaches_again_is_left_out_where_it_is_solved(side: Any, requests: Any) -> None:
    session, first, _ = side
    ledger = session.ledger
    ledger.switch("side")
    session.checkout()
    newer = session.edit([_other(requests[1])], "memit", config())
    ledger.switch("main")
    session.checkout()
    plan = plan_picks(ledger, [first.id, newer.id], "solve")
    assert [pick.live for pick in plan] == [(1,), (0,)]
    assert plan[0].to_dict()["left_out"] == 1
    made = cherry_pick(session, ledger, [first.id, newer.id], "solve")
    assert [len(e.requests) for e in made] == [1, 1]
    assert [pick.live for pick in plan_picks(ledger, [first.id, newer.id], "delta")] == [(0, 1), (0,)]


def test_what_cannot_be_picked_is_refused_before_anything_is_written(side: Any, requests: Any) -> None:
    session, first, _ = side
    ledger = session.ledger
    trained = session.edit(requests[7:8], "ft", config("ft"))
    session.revert(trained.id)
    head = ledger.head()
    for revs, how, why in (
        ([first.id, first.id], "delta", "twice"),
        (["HEAD~2"], "delta", "in force here already"),
        (["HEAD"], "delta", "adds no adapter"),
        ([trained.id], "solve", "no target values"),
        ([first.id], "sum", "delta, solve"),
        ([], "delta", "at least one"),
    ):
        with pytest.raises(InputError, match=why):
            cherry_pick(session, ledger, revs, how)
    with pytest.raises(InputError, match="needs the model"):
        cherry_pick(None, ledger, [first.id], "solve")
    assert ledger.head() == head
    ledger.reset("HEAD~1")
    with pytest.raises(BranchMoved):
        cherry_pick(session, ledger, [first.id])


def test_reasons_are_kept_by_every_operation_and_taken_on_by_a_replay(session: Any, requests: Any) -> None:
    ledger = session.ledger
    a, b = (session.edit(requests[i : i + 2], "memit", config()) for i in (0, 2))
    swapped = swap(session, a.id, "emmet", config("emmet"), reason="better")
    assert ledger.entry(swapped.id).reason == "better"
    tip = rebase(session, plan_rebase(ledger), message="tidy", author="cy", reason="one line")
    log = ledger.log()
    assert [e.reason for e in log] == ["", "better", ""]
    assert log[0].id == tip
    kept = ledger.entry(tip).rewrite
    assert (kept["operation"], kept["message"], kept["author"], kept["reason"]) == ("rebase", "tidy", "cy", "one line")
    assert [pair[0] for pair in kept["replayed"]] == [swapped.id, b.id]
    assert [one["entry"]["entry"] for one in kept["dropped"]] == [a.id]
    merged = merge(None, ledger, [log[0].id, log[1].id], "sum", reason="one for both")
    assert ledger.entry(merged.id).reason == "one for both"


def test_a_rebase_that_only_drops_leaves_a_note_and_is_not_to_be_done_again(session: Any, requests: Any) -> None:
    ledger = session.ledger
    kept = session.edit(requests[:2], "memit", config())
    wrong = session.edit(requests[2:4], "memit", config(), author="ada")
    session.revert(wrong.id, reason="wrong source")
    tip = rebase(session, plan_rebase(ledger), reason="cleaning up")
    note = ledger.entry(tip)
    assert (note.operation, note.parents, note.adapter) == ("rebase", (kept.id,), None)
    assert ledger.active_ids() == [kept.id]
    assert not plan_rebase(ledger).changes
    answer = next(a for a in ledger.blame(requests[2].subject) if a.taught.entry == wrong.id)
    assert answer.status == "dropped"
    assert answer.before is not None
    assert answer.before.reason == "wrong source"
    assert answer.event is not None
    assert answer.event.reason == "cleaning up"
    later = session.edit(requests[4:6], "memit", config())
    plan = plan_rebase(ledger)
    assert [(s.entry.id, s.action) for s in plan.steps] == [(kept.id, "keep"), (later.id, "keep")]
    assert not plan.changes
    assert [step["entry"] for step in build_summary(ledger)["steps"]] == [kept.id, later.id]
    assert ledger.verify() == []


def test_a_superseded_fact_that_a_merge_left_out_is_still_found_after_a_rebase_and_gc(
    session: Any, requests: Any
) -> None:
    ledger = session.ledger
    a = session.edit(requests[:2], "memit", config())
    b = session.edit([_other(requests[0])], "memit", config())
    merge(None, ledger, [a.id, b.id], "sum", reason="quarter")
    session.checkout()
    session.edit(requests[4:6], "memit", config())
    rebase(session, plan_rebase(ledger))
    ledger.gc(keep_days=None, grace=0)
    answers = {a.taught.target_new: a for a in ledger.blame(requests[0].subject, requests[0].named_relation)}
    lost = answers[requests[0].target_new]
    assert (lost.status, lost.taught.entry) == ("dropped", a.id)
    assert lost.before is not None
    assert (lost.before.operation, lost.before.reason) == ("merge", "quarter")
    assert answers["Norway"].status == "in force"


def _other(request: Request) -> Request:
    return Request(request.subject, request.prompt, "Norway", relation=request.relation)
