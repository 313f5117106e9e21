"""Filters on updates in a ledger: what entries hold is what was written, whatever happens to them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from ledger import Ledger
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.delta import Dense, LowRank
from seqedit.cli.main import run
from seqedit.editing.compute import apply_adapter
from seqedit.editing.diagnosis import line_of
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.methods import get_method
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.store import read_second_moments
from seqedit.session.merge import merge
from seqedit.session.rebase import plan_rebase, rebase
from seqedit.session.session import Session
from seqedit.session.swap import swap
from tests.conftest import REFERENCE
from tests.session.test_sequence import CONTEXTS, NAME, close, directly, joint, written


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


FILTERS: list[dict[str, Any]] = [
    {"update_filter": "revive"}, {"update_filter": "revive", "filter_inside": True}, {"update_filter": "sphere"},
    {"update_filter": "rect"}, {"update_filter": "prune"}, {"update_filter": "nse", "filter_share": 0.5},
]  # fmt: skip


def original(session: Any, name: str = NAME) -> torch.Tensor:
    return session.edited.base[name].double()  # type: ignore[no-any-return]


@pytest.mark.parametrize("settings", FILTERS, ids=str)
def test_after_any_history_a_batch_without_a_filter_ends_in_the_joint_solution(
    settings: dict[str, Any], session: Any, requests: Any
) -> None:
    entries = [session.edit(requests[i : i + 2], "memit", joint(**settings)) for i in (0, 2, 4)]
    session.revert(entries[0].id)
    swap(session, entries[1].id, "emmet", joint("emmet", a=0.3, **settings))
    first, second = [entry.id for entry in session.ledger.active(session.tip)]
    rebase(session, plan_rebase(session.ledger, order=[second, first]), message="reorder")
    session.edit(requests[6:8], "memit", joint())
    close(written(session), directly(session, 50))


@pytest.mark.parametrize("settings", FILTERS, ids=str)
def test_a_revert_is_exact_and_the_ledger_verifies(settings: dict[str, Any], session: Any, requests: Any) -> None:
    session.edit(requests[:2], "memit", joint(**settings))
    before = {p.name: p.matrix().clone() for p in session.edited.parts.projections}
    entry = session.edit(requests[2:4], "memit", joint(**settings))
    session.revert(entry.id)
    assert all(torch.equal(before[p.name], p.matrix()) for p in session.edited.parts.projections)
    assert session.ledger.verify() == []


def test_a_projection_keeps_every_entry_out_of_the_original_weights_dominant_subspace(
    session: Any, requests: Any
) -> None:
    U, s, Vh = torch.linalg.svd(original(session), full_matrices=False)
    k = int((s.square().cumsum(0) / s.square().sum() <= 0.3).sum()) + 1
    entries = [
        session.edit(requests[i : i + 2], "memit", joint(sequence=how, update_filter="revive", filter_energy=0.3))
        for i, how in ((0, "separate"), (2, "joint"), (4, "joint"))
    ]
    session.revert(entries[1].id)
    session.edit(requests[6:8], "memit", joint(update_filter="revive", filter_energy=0.3))
    for one in session.ledger.adapters(session.tip):
        delta = one.deltas[NAME].dense()
        # Adapters are float32.
        assert float((U[:, :k].T @ delta).norm() / delta.norm()) < 1e-6
        assert float((delta @ Vh[:k].T).norm() / delta.norm()) < 1e-6


def test_a_filtered_merge_stays_in_the_sequence(session: Any, requests: Any) -> None:
    entries = [session.edit(requests[i : i + 2], "memit", joint(update_filter="rect")) for i in (0, 2)]
    merge(session, session.ledger, [e.id for e in entries], "sum")
    session.edit(requests[6:8], "memit", joint())
    close(written(session), directly(session, 50))


@pytest.mark.parametrize("method", ["memit", "emmet", "rome", "pmet", "alphaedit"])
@pytest.mark.parametrize("name", ["revive", "sphere", "rect", "prune", "nse"])
def test_every_filter_of_every_closed_form_is_stored_and_loaded_by_stock_peft(
    name: str, method: str, session: Any, requests: Any, tmp_path: Path
) -> None:
    own = {} if method == "alphaedit" else {"second_moment_weight": 50}
    threshold = {"nullspace_threshold": 0.2} if method == "alphaedit" else {}
    base = {"layers": [1], "spread": "single", "steps": 4, "update_filter": name}
    config = get_method(method).config.from_dict({**base, **own, **threshold})
    adapter = session.compute(requests[:3], method, config)
    kind = Dense if name == "rect" else LowRank
    assert isinstance(adapter.deltas[NAME], kind)
    found = adapter.provenance["diagnosis"]["filtered"][NAME]
    assert found["rank"] == adapter.deltas[NAME].rank
    adapter.save_pretrained(tmp_path / "adapter")
    assert Adapter.from_pretrained(tmp_path / "adapter").digest == adapter.digest
    model, tokenizer = copy.deepcopy(session.edited.model), session.edited.tokenizer
    plain = copy.deepcopy(model)
    apply_adapter(plain, adapter)
    ids = torch.tensor([tokenizer(requests[0].text)["input_ids"]])
    stock = PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(stock(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_nse_changes_no_weight_of_the_other_neurons_and_rect_none_of_the_elements_it_drops(
    session: Any, requests: Any
) -> None:
    before = session.edited.parts.projections[1].matrix().clone()
    for settings, share in (({"update_filter": "nse", "filter_share": 0.3}, None), ({"update_filter": "rect"}, 0.4)):
        entry = session.edit(requests[:2], "memit", joint(**settings))
        changed = session.edited.parts.projections[1].matrix() != before
        if share is None:
            scores = session.ledger.adapter(entry).keys[NAME].double().abs().sum(0)
            kept = changed.any(0)
            assert float(scores[kept].sum()) <= 0.3 * float(scores.sum())
            assert float(scores[kept].min()) >= float(scores[~kept].max())
        else:
            assert 0.35 < float(changed.double().mean()) <= 0.41  # a change below float32 is none
        session.revert(entry.id)


def test_the_diagnosis_says_what_the_filter_left_what_it_costs_and_where_it_is_at_fault(
    session: Any, requests: Any
) -> None:
    plain = session.compute(requests[:2], "memit", joint(sequence="separate")).provenance["diagnosis"]
    assert "filtered" not in plain
    found = session.compute(requests[:2], "memit", joint(sequence="separate", update_filter="rect"))
    said = line_of(found.provenance["diagnosis"])
    rows = session.edited.base[NAME].shape[0]
    assert f"takes rank {rows} to store instead of 2: an adapter {rows / 2:.2g} times as large" in said
    hard = joint(sequence="separate", update_filter="revive", filter_energy=0.9, second_moment_weight=1)
    diagnosis = session.compute(requests[:2], "memit", hard).provenance["diagnosis"]
    (fault,) = [fault for fault in diagnosis["faults"] if fault["setting"].startswith("filter")]
    assert (fault["setting"], fault["value"], fault["proposed"]) == ("filter_energy", 0.9, 0.45)
    assert "the filter 'revive' took it down from" in fault["text"]


def test_several_layers_are_filtered_each_by_its_own_weights(session: Any, requests: Any) -> None:
    session.edit(requests[:3], "memit", joint(layers=[1, 2], spread="even", update_filter="revive"))
    session.edit(requests[3:6], "memit", joint(layers=[1, 2], spread="even", update_filter="revive"))
    for layer in (1, 2):
        name = f"transformer.h.{layer}.mlp.c_proj"
        U, s, Vh = torch.linalg.svd(original(session, name), full_matrices=False)
        k = int((s.square().cumsum(0) / s.square().sum() <= 0.5).sum()) + 1
        expected = directly(session, 50, name=name)
        expected = expected - U[:, :k] @ (U[:, :k].T @ expected)
        close(written(session, name), expected - (expected @ Vh[:k].T) @ Vh[:k])


def test_edit_takes_the_settings_and_tells_what_a_filter_costs(tmp_path: Path, capsys: Any) -> None:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    (tmp_path / "facts.json").write_text(json.dumps(case["records"]))
    (tmp_path / "templates.json").write_text(json.dumps([["{}"]]))
    arguments = [
        "edit", "--model", str(REFERENCE / "model"), "--requests", str(tmp_path / "facts.json"), "--method", "memit",
        "--second-moments", str(REFERENCE / "second_moments.safetensors"), "--layers", "1,2", "--out",
        "--context-templates", str(tmp_path / "templates.json"), "--set", "steps=3", "--set",
    ]  # fmt: skip
    arguments.remove("--out")

    def edit(name: str, *settings: str) -> int:
        return run([*arguments, "update_filter=" + settings[0], *settings[1:], "--out", str(tmp_path / name)])

    assert edit("rect", "rect") == 0
    assert "takes rank" in capsys.readouterr().err
    adapter = Adapter.from_pretrained(tmp_path / "rect")
    assert adapter.method["update_filter"] == "rect"
    assert all(isinstance(delta, Dense) for delta in adapter.deltas.values())
    assert edit("sphere", "sphere", "--set", "filter_strength=1", "--set", "filter_inside=true") == 0
    assert "left by the filter" in capsys.readouterr().err
    assert edit("wrong", "rect", "--set", "filter_energy=0.5") == 2
    assert "'filter_energy' is not read with update_filter 'rect'" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()
