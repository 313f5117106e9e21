"""Swap, merge, rebase and reorder on a real (small) model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from ledger import Ledger
from seqedit.adapters.composition import compose
from seqedit.errors import InputError, RequestError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Request, requests_of
from seqedit.methods import get_method
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import SecondMomentSettings, provide_second_moments
from seqedit.moments.store import read_second_moments
from seqedit.scoring.kinds import KIND_DIAGNOSIS
from seqedit.session import rebase as rebasing
from seqedit.session.merge import merge
from seqedit.session.rebase import abort, plan_rebase, rebase
from seqedit.session.session import Session
from seqedit.session.swap import swap
from tests.conftest import REFERENCE

CONTEXTS = [["{}"], ["It rained. {}"]]


@pytest.fixture
def session(tmp_path: Path) -> Any:
    edited = EditedModel(*load_model(str(REFERENCE / "model")))
    moments = read_second_moments(REFERENCE / "second_moments.safetensors")
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        yield Session(edited, ledger, moments, context_templates=CONTEXTS)


@pytest.fixture
def requests(tmp_path: Path) -> list[Request]:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    (tmp_path / "facts.json").write_text(json.dumps(case["records"]))
    return requests_of(load_records(tmp_path / "facts.json"))


def config(method: str = "memit", **settings: Any) -> Any:
    if method in ("ft", "lora"):
        return get_method(method).config.from_dict({"layers": [2], "steps": 5, **settings})
    base = {"layers": [2], "spread": "single", "steps": 5, "second_moment_weight": 50, "clamp_norm_factor": 1.5}
    return get_method(method).config.from_dict({**base, **settings})


def weights(session: Session, rev: str = "HEAD") -> dict[str, torch.Tensor]:
    names = [p.name for p in session.edited.parts.projections]
    return session.ledger.compose(session.edited.base_weights(names), rev)


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> float:
    """Largest difference of two states, relative to what the second changes."""
    worst = 0.0
    for name in b:
        change = (b[name].double() - base[name].double()).norm()
        if change > 0:
            worst = max(worst, float((a[name].double() - b[name].double()).norm() / change))
    return worst


def test_a_swap_is_computed_on_what_came_before_it_and_composes_in_its_place(session: Any, requests: Any) -> None:
    first = session.edit(requests[:2], "memit", config())
    second = session.edit(requests[2:4], "memit", config())
    third = session.edit(requests[4:6], "memit", config())
    made = swap(session, second.id, "emmet", config("emmet"))
    ledger = session.ledger
    assert [e.id for e in ledger.active()] == [first.id, made.id, third.id]
    assert made.requests == second.requests
    alone = session.compute_on([first], requests[2:4], "emmet", config("emmet"), context_templates=CONTEXTS)
    assert ledger.adapter(made).digest == alone.digest
    assert torch.equal(
        session.edited.parts.projections[2].matrix(), weights(session)[session.edited.parts.projections[2].name]
    )


def test_reverting_a_swap_gives_bit_equal_weights_of_before(session: Any, requests: Any) -> None:
    first = session.edit(requests[:2], "memit", config())
    session.edit(requests[2:4], "memit", config())
    before = weights(session)
    made = swap(session, first.id, "ft", config("ft"))
    assert any(not torch.equal(before[n], w) for n, w in weights(session).items())
    session.revert(made.id)
    assert all(torch.equal(before[n], w) for n, w in weights(session).items())


def test_a_swapped_batch_does_not_supersede_what_was_taught_after_it(session: Any, requests: Any) -> None:
    first = session.edit(requests[:2], "memit", config())
    newer = Request(requests[0].subject, requests[0].prompt, "Norway", relation=requests[0].relation)
    session.edit([newer], "memit", config())
    made = swap(session, first.id, "memit", config(steps=3))
    assert session.ledger.live_requests()[made.id] == (1,)


def branches_of_one_parent(session: Any, batches: Any, method: str, **settings: Any) -> list[str]:
    """Batches that are all computed on the same state, each on a branch of its own."""
    ledger, entries = session.ledger, []
    start = ledger.head()
    for number, batch in enumerate(batches):
        ledger.start_branch(f"b{number}", start)
        ledger.switch(f"b{number}")
        session.checkout()
        entries.append(session.edit(batch, method, config(method, **settings)).id)
    ledger.switch("main")
    session.checkout()
    return entries


@pytest.mark.parametrize(
    ("method", "settings"), [("memit", {}), ("emmet", {"a": 0.1}), ("alphaedit", {}), ("evoedit", {})]
)
def test_solving_batches_of_one_parent_is_editing_them_as_one_batch_and_their_sum_is_not(
    session: Any, requests: Any, method: str, settings: Any
) -> None:
    if method in ("alphaedit", "evoedit"):
        settings = {"nullspace_threshold": 0.05}
    session.edit(requests[:1], "memit", config())  # a parent that is not the base
    parent = weights(session)
    entries = branches_of_one_parent(session, [requests[1:3], requests[3:5], requests[5:7]], method, **settings)
    ledger = session.ledger
    values = torch.cat([ledger.adapter(e).target_values for e in entries])
    adapter = session.compute_on(
        ledger.active(), requests[1:7], method, config(method, **settings), target_values=values
    )
    names = sorted(adapter.deltas)
    together = compose(session.edited.base_weights(names), [*ledger.adapters(), adapter])
    base = {name: parent[name] for name in names}

    solved = merge(session, ledger, entries, "solve")
    assert solved.parents[1:] == tuple(entries)
    assert difference({n: weights(session)[n] for n in names}, together, base) < 1e-6
    ledger.undo()
    summed = merge(None, ledger, entries, "sum")
    assert len(summed.requests) == 6
    assert difference({n: weights(session)[n] for n in names}, together, base) > 1e-2


def test_solving_meets_the_constraints_of_all_batches(session: Any, requests: Any) -> None:
    entries = branches_of_one_parent(session, [requests[:3], requests[3:6]], "emmet", a=0.0)
    entry = merge(session, session.ledger, entries, "solve")
    adapter = session.ledger.adapter(entry)
    (name,) = adapter.deltas
    keys = adapter.keys[name].double()
    solved = adapter.deltas[name].dense() @ keys.T
    for identifier, columns in zip(entries, (slice(0, 3), slice(3, 6)), strict=True):
        one = session.ledger.adapter(identifier)
        assert torch.allclose(one.keys[name], keys[columns].float(), atol=1e-6)
        wanted = one.deltas[name].dense() @ one.keys[name].double().T
        assert float((solved[:, columns] - wanted).norm() / wanted.norm()) < 1e-4


def test_what_is_solved_anew_records_its_diagnosis_and_what_is_only_summed_has_none(
    session: Any, requests: Any
) -> None:
    def diagnosis(entry: str) -> Any:
        return session.ledger.scores(entry, KIND_DIAGNOSIS).get(KIND_DIAGNOSIS)

    entries = branches_of_one_parent(session, [requests[:2], requests[2:4]], "memit")
    solved = merge(session, session.ledger, entries, "solve")
    assert diagnosis(solved.id)["requests"] == 4
    assert diagnosis(solved.id) == session.ledger.adapter(solved).provenance["diagnosis"]
    swapped = swap(session, solved.id, "emmet", config("emmet"))
    assert diagnosis(swapped.id)["requests"] == 4
    later = session.edit(requests[4:6], "memit", config())
    summed = merge(session, session.ledger, [swapped.id, later.id], "sum")
    assert diagnosis(summed.id) is None


def test_what_a_rebase_computes_again_records_its_diagnosis(session: Any, requests: Any) -> None:
    first = session.edit(requests[:2], "memit", config())
    second = session.edit(requests[2:4], "memit", config(protect_earlier=True))
    session.revert(first.id)
    tip = rebase(session, plan_rebase(session.ledger))
    found = session.ledger.scores(tip, KIND_DIAGNOSIS)[KIND_DIAGNOSIS]
    assert found == session.ledger.adapter(session.ledger.entry(tip)).provenance["diagnosis"]
    assert found["load"] != session.ledger.scores(second.id, KIND_DIAGNOSIS)[KIND_DIAGNOSIS]["load"]


def test_the_sum_of_active_entries_is_the_same_state_in_one_entry(session: Any, requests: Any) -> None:
    entries = [session.edit(requests[i : i + 2], "memit", config(layers=[1, 2], spread="even")).id for i in (0, 2, 4)]
    before = weights(session)
    merged = merge(None, session.ledger, [entries[2], entries[0]], "sum")
    assert [e.id for e in session.ledger.active()] == [entries[1], merged.id]
    base = session.edited.base_weights(list(before))
    assert difference(weights(session), before, base) < 1e-6
    assert set(session.ledger.facts()) == {r.fact for r in requests[:6]}


@pytest.mark.parametrize("how", ["ties", "dare"])
def test_pefts_merges_are_seeded_and_are_those_of_peft(session: Any, requests: Any, how: Any) -> None:
    from peft.utils.merge_utils import dare_linear, ties

    entries = branches_of_one_parent(session, [requests[:2], requests[2:4]], "memit")
    entry = merge(None, session.ledger, entries, how, density=0.3, seed=5)
    adapter = session.ledger.adapter(entry)
    (name,) = adapter.deltas
    deltas = [session.ledger.adapter(e).deltas[name].dense(torch.float32) for e in entries]
    torch.manual_seed(5)
    expected = (ties if how == "ties" else dare_linear)(deltas, torch.ones(2), 0.3)
    assert torch.equal(adapter.deltas[name].dense(torch.float32), expected)


def test_entries_that_contradict_each_other_are_not_merged_and_the_fact_is_named(session: Any, requests: Any) -> None:
    other = Request(requests[0].subject, requests[0].prompt, "Norway", relation=requests[0].relation)
    entries = branches_of_one_parent(session, [requests[:2], [other]], "memit")
    head = session.ledger.head()
    with pytest.raises(RequestError, match=r"contradictory.*Norway"):
        merge(session, session.ledger, entries, "solve")
    assert session.ledger.head() == head


def test_a_superseded_fact_is_left_out_of_a_merge(session: Any, requests: Any) -> None:
    first = session.edit(requests[:2], "memit", config())
    other = Request(requests[0].subject, requests[0].prompt, "Norway", relation=requests[0].relation)
    second = session.edit([other], "memit", config())
    merged = merge(session, session.ledger, [first.id, second.id], "solve")
    assert [r.target_new for r in merged.requests] == [requests[1].target_new, "Norway"]


def test_trained_adapters_have_nothing_to_solve_and_the_error_names_the_entry(session: Any, requests: Any) -> None:
    first = session.edit(requests[:2], "ft", config("ft"))
    second = session.edit(requests[2:4], "memit", config())
    with pytest.raises(InputError, match=rf"{first.id[:12]} \(ft\)"):
        merge(session, session.ledger, [first.id, second.id], "solve")


def test_methods_that_differ_need_to_be_told_how_to_solve(session: Any, requests: Any) -> None:
    first = session.edit(requests[:2], "emmet", config("emmet"))
    second = session.edit(requests[2:4], "memit", config())
    with pytest.raises(InputError, match="--method"):
        merge(session, session.ledger, [first.id, second.id], "solve")
    entry = merge(session, session.ledger, [first.id, second.id], "solve", method="memit", config=config())
    assert entry.method["solved_by"]["name"] == "memit"


def test_a_rebase_after_a_revert_recomputes_what_followed_and_undo_brings_the_old_history_back(
    session: Any, requests: Any
) -> None:
    kept, dropped, follows = (session.edit(requests[i : i + 2], "memit", config()) for i in (0, 2, 4))
    session.revert(dropped.id)
    old = session.ledger.head()
    plan = plan_rebase(session.ledger)
    assert [(s.entry.id, s.action) for s in plan.steps] == [(kept.id, "keep"), (follows.id, "recompute")]
    tip = rebase(session, plan)
    assert [e.operation for e in session.ledger.log()] == ["edit", "edit", "root"]
    assert session.ledger.log()[1].id == kept.id
    fresh = session.compute_on([kept], requests[4:6], "memit", config(), context_templates=CONTEXTS)
    assert session.ledger.adapter(tip).digest == fresh.digest
    assert set(session.ledger.branches()) == {"main"}
    session.ledger.undo()
    assert session.ledger.head() == old


def test_a_rebase_that_changes_nothing_says_so(session: Any, requests: Any) -> None:
    session.edit(requests[:2], "memit", config())
    assert not plan_rebase(session.ledger).changes
    session.revert(session.edit(requests[2:4], "memit", config()).id)
    assert plan_rebase(session.ledger).changes  # the pair of edit and revert can go


def test_an_interrupted_rebase_is_resumed_with_what_it_has(session: Any, requests: Any, monkeypatch: Any) -> None:
    entries = [session.edit(requests[i : i + 2], "memit", config()) for i in (0, 2, 4)]
    session.revert(entries[0].id)
    plan, old = plan_rebase(session.ledger), session.ledger.head()
    replay, count = rebasing._replay, iter(range(9))

    def interrupted(*arguments: Any) -> Any:
        if next(count) == 1:
            raise KeyboardInterrupt
        return replay(*arguments)

    monkeypatch.setattr(rebasing, "_replay", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rebase(session, plan)
    assert session.ledger.head() == old  # nothing of it shows yet
    begun = session.ledger.branches()["rebase/main"]
    with pytest.raises(InputError, match="--resume"):
        rebase(session, plan_rebase(session.ledger))
    rebase(session, plan_rebase(session.ledger), resume=True)
    assert session.ledger.log()[1].id == begun
    assert not abort(session.ledger)


def test_a_branch_is_rebased_onto_another(session: Any, requests: Any) -> None:
    ledger = session.ledger
    common = session.edit(requests[:2], "memit", config())
    ledger.start_branch("topic")
    theirs = session.edit(requests[2:4], "memit", config())
    ledger.switch("topic")
    session.checkout()
    mine = session.edit(requests[4:6], "memit", config())
    plan = plan_rebase(ledger, onto="main")
    assert [(s.entry.id, s.action) for s in plan.steps] == [(mine.id, "recompute")]
    rebase(session, plan)
    assert [e.id for e in ledger.active()][:2] == [common.id, theirs.id]
    assert ledger.active()[2].requests == mine.requests
    assert ledger.branches()["main"] == theirs.id


def test_reordering_computes_in_the_new_order(session: Any, requests: Any) -> None:
    a, b, c = (session.edit(requests[i : i + 2], "memit", config()) for i in (0, 2, 4))
    plan = plan_rebase(session.ledger, order=[c.id, b.id])
    assert [(s.entry.id, s.action) for s in plan.steps] == [
        (a.id, "keep"), (c.id, "recompute"), (b.id, "recompute")
    ]  # fmt: skip
    rebase(session, plan)
    assert [e.requests for e in session.ledger.active()] == [a.requests, c.requests, b.requests]


def test_a_rebase_keeps_a_swap_and_turns_it_into_an_edit(session: Any, requests: Any) -> None:
    a, b = (session.edit(requests[i : i + 2], "memit", config()) for i in (0, 2))
    swapped = swap(session, a.id, "emmet", config("emmet"))
    plan = plan_rebase(session.ledger)
    assert [(s.entry.id, s.action) for s in plan.steps] == [(swapped.id, "reuse"), (b.id, "recompute")]
    rebase(session, plan)
    assert [e.operation for e in session.ledger.log()] == ["edit", "edit", "root"]
    assert session.ledger.active()[0].adapter == swapped.adapter


def test_the_calls_of_old_modules_give_what_the_new_ones_do(session: Any, requests: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from seqedit.open_session import moments_provider  # type: ignore[import-not-found]
    text = tmp_path / "text.txt"
    text.write_text("The sport of golf and the sport of rowing are known to all of them.\n" * 60)
    old = moments_provider(session.edited, "tiny", text=str(text), max_tokens=500)((1,))
    new = provide_second_moments(session.edited, (1,), SecondMomentSettings(text=str(text), max_tokens=500))
    assert old.digest == new.digest
