"""A joint sequence in a ledger: what the adapters keep, and that any history ends in the joint solution."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ledger import Ledger
from seqedit.adapters.adapter import Adapter
from seqedit.editing.editor import held_of
from seqedit.errors import InputError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.methods import get_method
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.store import read_second_moments
from seqedit.session.merge import merge
from seqedit.session.session import Session
from seqedit.session.swap import swap
from tests.conftest import REFERENCE

CONTEXTS = [["{}"], ["It rained. {}"]]
NAME = "transformer.h.1.mlp.c_proj"


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


def joint(method: str = "memit", **settings: Any) -> Any:
    base = {"layers": [1], "spread": "single", "steps": 8, "second_moment_weight": 50, "sequence": "joint"}
    return get_method(method).config.from_dict({**base, **settings})


def written(session: Any, name: str = NAME) -> torch.Tensor:
    return sum((one.deltas[name].dense() for one in session.ledger.adapters(session.tip)), torch.zeros(()))


def directly(session: Any, weight: float, a: float = 1.0, name: str = NAME) -> torch.Tensor:
    """The joint least squares of the facts in force, from what the adapters keep and nothing else."""
    adapters = list(session.ledger.adapters(session.tip))
    live = [
        (one.keys[name][i].double(), one.residuals[name][i].double())
        for n, one in enumerate(adapters)
        for i, request in enumerate(one.requests)
        if all(request.fact not in {r.fact for r in later.requests} for later in adapters[n + 1 :])
    ]
    K, R = torch.stack([k for k, _ in live]).T, torch.stack([r for _, r in live]).T
    C = weight * session.moments.matrices[name].double()
    return R @ K.T @ torch.linalg.inv(a * C + K @ K.T)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    # Adapters are float32.
    assert float((found - expected).norm() / expected.norm()) < 2e-6


@pytest.mark.parametrize("method", ["memit", "emmet", "pmet"])
def test_batches_in_sequence_are_one_joint_solve(method: str, session: Any, requests: Any) -> None:
    for first in range(0, 6, 2):
        session.edit(requests[first : first + 2], method, joint(method))
    close(written(session), directly(session, 50, joint(method).a))
    assert [one.deltas[NAME].rank for one in session.ledger.adapters(session.tip)] == [2, 2, 2]


def test_each_layer_of_several_is_a_joint_solve(session: Any, requests: Any) -> None:
    for first in range(0, 6, 3):
        session.edit(requests[first : first + 3], "memit", joint(layers=[1, 2], spread="even"))
    for layer in (1, 2):
        name = f"transformer.h.{layer}.mlp.c_proj"
        close(written(session, name), directly(session, 50, name=name))


def test_after_a_revert_the_next_batch_makes_it_the_joint_solve_of_the_others(session: Any, requests: Any) -> None:
    entries = [session.edit(requests[first : first + 2], "memit", joint()) for first in range(0, 6, 2)]
    session.revert(entries[1].id)
    assert float((written(session) - directly(session, 50)).norm()) > 1e-4
    session.edit(requests[6:8], "memit", joint())
    close(written(session), directly(session, 50))


def test_after_a_swap_and_with_other_settings_too(session: Any, requests: Any) -> None:
    entries = [session.edit(requests[first : first + 2], "memit", joint()) for first in range(0, 4, 2)]
    swap(session, entries[0].id, "emmet", joint("emmet", a=0.3))
    session.edit(requests[6:8], "memit", joint(second_moment_weight=20))
    close(written(session), directly(session, 20))


def test_a_superseded_fact_leaves_the_sums(session: Any, requests: Any) -> None:
    session.edit(requests[:3], "memit", joint())
    session.edit([replace(requests[1], target_new=requests[4].target_new)], "memit", joint())
    found = held_of(list(session.ledger.adapters(session.tip)))[NAME]
    assert len(found.keys) == 3
    close(written(session), directly(session, 50))


def test_merged_entries_stay_in_the_sequence(session: Any, requests: Any) -> None:
    entries = [session.edit(requests[first : first + 2], "memit", joint()) for first in range(0, 4, 2)]
    merge(session, session.ledger, [e.id for e in entries], "sum")
    session.edit(requests[6:8], "memit", joint())
    close(written(session), directly(session, 50))


def test_what_other_methods_wrote_belongs_to_the_weights_it_begins_with(session: Any, requests: Any) -> None:
    session.edit(requests[:2], "memit", joint(sequence="separate"))
    for first in range(2, 6, 2):
        session.edit(requests[first : first + 2], "memit", joint())
    adapters = list(session.ledger.adapters(session.tip))
    assert [bool(one.residuals) for one in adapters] == [False, True, True]
    assert len(held_of(adapters)[NAME].keys) == 4


def test_an_adapter_of_a_sequence_is_read_back_with_its_residuals_and_a_format_of_its_own(
    session: Any,
    requests: Any,
    tmp_path: Path,
) -> None:
    adapter = session.compute(requests[:2], "memit", joint())
    adapter.save_pretrained(tmp_path / "joint")
    again = Adapter.from_pretrained(tmp_path / "joint")
    assert again.digest == adapter.digest
    assert (adapter.format, session.compute(requests[:2], "memit", joint(sequence="separate")).format) == (2, 1)
    torch.testing.assert_close(again.residuals[NAME], adapter.residuals[NAME], rtol=0, atol=0)
    assert replace(again, residuals={}).digest != adapter.digest
    with pytest.raises(InputError, match="as many as its keys"):
        replace(again, residuals={NAME: again.residuals[NAME][:1]})


def test_the_first_batch_of_a_sequence_is_the_published_method(session: Any, requests: Any) -> None:
    alone = session.compute(requests[:3], "memit", joint(sequence="separate"))
    first = session.compute(requests[:3], "memit", joint())
    close(first.deltas[NAME].dense(), alone.deltas[NAME].dense())


def test_a_ledger_with_a_sequence_verifies_and_a_revert_is_exact(session: Any, requests: Any) -> None:
    session.edit(requests[:2], "memit", joint())
    before = {p.name: p.matrix().clone() for p in session.edited.parts.projections}
    entry = session.edit(requests[2:4], "memit", joint())
    session.revert(entry.id)
    assert all(torch.equal(before[p.name], p.matrix()) for p in session.edited.parts.projections)
    assert session.ledger.verify() == []


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("rome", {}, "solves a batch as one"), ("emmet", {"a": 0.0}, "a > 0"),
        ("memit", {"protect_following": True}, "protect_following"),
    ],
)  # fmt: skip
def test_settings_that_have_no_joint_solution_are_refused(method: str, settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_method(method).config.from_dict({"layers": [1], "sequence": "joint", **settings})
