"""Protected earlier edits: what a session hands to a method, and that it changes the edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ledger import Ledger
from seqedit.editing.diagnosis import line_of
from seqedit.errors import InputError, NumericsError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.keys.measure import measure_keys
from seqedit.methods import get_method
from seqedit.models.anatomy import anatomy
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.store import read_second_moments
from seqedit.session.plan import plan_edits
from seqedit.session.session import Session
from tests.conftest import REFERENCE

CONTEXTS = [["{}"], ["It rained. {}"]]


@pytest.fixture
def session(tmp_path: Path) -> Any:
    edited = EditedModel(*load_model(str(REFERENCE / "model")))
    moments = read_second_moments(REFERENCE / "second_moments.safetensors")
    with Ledger.create(tmp_path / "ledger", edited.base_model) as ledger:
        yield Session(edited, ledger, moments, context_templates=CONTEXTS)


@pytest.fixture
def requests(tmp_path: Path) -> Any:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    (tmp_path / "facts.json").write_text(json.dumps(case["records"]))
    return requests_of(load_records(tmp_path / "facts.json"))


def config(method: str, **settings: Any) -> Any:
    base = {"layers": [1, 2], "steps": 8, "second_moment_weight": 50, "nullspace_threshold": 0.05}
    known = {**base, **settings}
    if method not in ("alphaedit", "evoedit"):
        known.pop("nullspace_threshold")
    return get_method(method).config.from_dict(known)


def test_the_stored_keys_are_those_of_the_model_after_the_batch(session: Any, requests: Any) -> None:
    assert session.earlier_keys() == {}
    session.edit(requests[:4], "memit", config("memit"))
    model, tokenizer = session.edited.model, session.edited.tokenizer
    measured = measure_keys(model, anatomy(model), tokenizer, requests[:4], CONTEXTS, [1, 2])
    for layer in (1, 2):
        stored = session.earlier_keys()[f"transformer.h.{layer}.mlp.c_proj"]
        torch.testing.assert_close(stored, measured[layer].float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["memit", "emmet", "pmet", "alphaedit", "evoedit"])
def test_protecting_makes_a_later_edit_move_the_earlier_facts_less(method: str, session: Any, requests: Any) -> None:
    session.edit(requests[:4], "memit", config("memit"))
    earlier = session.earlier_keys()
    moved = {}
    for protect in (False, True):
        adapter = session.compute(requests[4:], method, config(method, protect_earlier=protect))
        assert adapter.provenance["protected_keys"] == (4 if protect else 0)
        moved[protect] = sum(
            float((delta.dense() @ earlier[name].double().T).norm()) for name, delta in adapter.deltas.items()
        )
    assert moved[True] < 0.8 * moved[False]


def test_reverted_edits_are_not_protected(session: Any, requests: Any) -> None:
    entry = session.edit(requests[:4], "memit", config("memit"))
    session.revert(entry.id)
    assert session.earlier_keys() == {}


def exact(session: Any, adapter: Any, keys: dict[str, torch.Tensor]) -> float:
    """How much of its own size an adapter writes at some keys, at most."""
    return max(
        float((delta.dense().double() @ keys[name].double().T).norm() / delta.dense().norm() / keys[name].norm())
        for name, delta in adapter.deltas.items()
    )


def test_evoedit_writes_nothing_at_the_keys_of_facts_in_force(session: Any, requests: Any) -> None:
    session.edit(requests[:3], "memit", config("memit"))  # whatever method they are of
    session.edit(requests[3:5], "evoedit", config("evoedit"))
    adapter = session.compute(requests[5:], "evoedit", config("evoedit"))
    assert exact(session, adapter, session.earlier_keys()) < 1e-7  # float32
    soft = session.compute(requests[5:], "alphaedit", config("alphaedit"))
    assert exact(session, soft, session.earlier_keys()) > 1e-4
    left = adapter.provenance["diagnosis"]["left"]
    whole = session.compute(requests[5:], "evoedit", config("evoedit", protect_earlier=False))
    for name, (free, all_of) in whole.provenance["diagnosis"]["left"].items():
        assert free == all_of == left[name][1] == left[name][0] + 5


def test_evoedit_after_a_revert_is_as_if_the_batch_had_never_been(session: Any, requests: Any) -> None:
    session.edit(requests[:2], "evoedit", config("evoedit"))
    never = session.compute(requests[4:], "evoedit", config("evoedit"))
    entry = session.edit(requests[2:4], "evoedit", config("evoedit"))
    after = session.compute(requests[4:], "evoedit", config("evoedit"))
    assert after.digest != never.digest
    session.revert(entry.id)
    assert session.compute(requests[4:], "evoedit", config("evoedit")).digest == never.digest


def test_evoedit_holds_no_fact_that_was_edited_again_or_is_now(session: Any, requests: Any) -> None:
    session.edit(requests[:4], "evoedit", config("evoedit"))
    again = session.compute(requests[:1], "evoedit", config("evoedit"))
    name, (free, whole) = next(iter(again.provenance["diagnosis"]["left"].items()))
    assert whole - free == 3
    assert float((again.deltas[name].dense().double() @ again.keys[name].double().T).norm()) > 1e-3
    session.edit(requests[:1], "evoedit", config("evoedit"))
    later = session.compute(requests[6:], "evoedit", config("evoedit"))
    free, whole = later.provenance["diagnosis"]["left"][name]
    assert whole - free == 4


def test_evoedit_warns_before_the_null_space_is_used_up_and_then_refuses(session: Any, requests: Any) -> None:
    # So few eigenvalues are below the threshold that seven facts leave room for no second batch of their size.
    values = torch.linalg.eigvalsh(session.moments.matrices["transformer.h.1.mlp.c_proj"].double())
    narrow = config("evoedit", layers=[1], nullspace_threshold=float(values[5] + values[6]) / 2)
    first = session.edit(requests[:3], "evoedit", narrow)
    assert session.ledger.adapter(first).provenance["diagnosis"]["left"] == {"transformer.h.1.mlp.c_proj": [6, 6]}
    found = session.compute(requests[3:6], "evoedit", narrow).provenance["diagnosis"]
    (fault,) = [one for one in found["faults"] if one["setting"] == "nullspace_threshold"]
    assert "is nearly used up: earlier facts leave 3 of its 6 dimensions to this batch of 3; try --set" in fault["text"]
    assert "null space 3 of 6" in line_of(found)
    session.edit(requests[3:6], "evoedit", narrow)
    with pytest.raises(NumericsError, match=r"nothing is left of the null space of .* the 6 facts in force"):
        session.compute(requests[6:], "evoedit", narrow)


def test_a_plan_by_evoedit_sees_no_danger_for_what_it_holds(session: Any, requests: Any) -> None:
    session.edit(requests[:4], "evoedit", config("evoedit"))
    plan = plan_edits(session, requests[4:], "evoedit", config("evoedit"))
    assert all(fact.in_force is None or abs(fact.in_force.cosine) < 1e-6 for fact in plan.facts)
    made = session.compute(requests[4:5], "evoedit", config("evoedit", layers=[1], spread="single"))
    alone = plan_edits(session, requests[4:5], "evoedit", config("evoedit", layers=[1], spread="single"))
    name = "transformer.h.1.mlp.c_proj"
    assert alone.facts[0].written[name] == pytest.approx(made.provenance["diagnosis"]["written"][name], abs=2e-5)


def test_evoedit_takes_no_joint_sequence_and_no_share_outside_of_its_bounds() -> None:
    with pytest.raises(InputError, match="'joint' cannot be combined with evoedit"):
        config("evoedit", sequence="joint")
    for drop in (0, 1):
        with pytest.raises(InputError, match="'nullspace_drop' must be between"):
            config("evoedit", nullspace_drop=drop)
