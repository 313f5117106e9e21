"""Protected earlier edits: what a session hands to a method, and that it changes the edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ledger import Ledger
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.keys.measure import measure_keys
from seqedit.methods import get_method
from seqedit.models.anatomy import anatomy
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.store import read_second_moments
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
    if method != "alphaedit":
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


@pytest.mark.parametrize("method", ["memit", "emmet", "pmet", "alphaedit"])
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
