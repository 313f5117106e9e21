"""Options of the closed forms: a Frobenius penalty, one value per subject, one and the same key everywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_keys, measure_outputs
from seqedit.keys.walk import KeyWalk
from seqedit.methods import get_method
from seqedit.methods.interface import scratch
from seqedit.models.anatomy import anatomy
from seqedit.moments.store import read_second_moments
from seqedit.solver.closed_form import solve
from seqedit.solver.factorizations import Factorizations
from seqedit.solver.preconditioners import CholeskyPreconditioner, protect
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.values import optimise_target_values
from seqedit.text.lookup import tokenize_request
from tests.conftest import REFERENCE

BASE = BaseModel("tiny", "0" * 64)
CONTEXTS = [["{}"], ["It rained. {}", "At noon, {}"]]
LAYER = 2


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    rows = [record["requested_rewrite"] for record in case["records"]]
    return [Request(row["subject"], row["prompt"], row["target_new"]["str"]) for row in rows]


def edit(models: tuple[Any, Any], requests: list[Request], method: str = "memit", **settings: Any) -> Adapter:
    values = {"layers": [LAYER], "spread": "single", "steps": 8, "second_moment_weight": 50, **settings}
    return compute_adapter(
        *models, requests, method, get_method(method).config.from_dict(values), base_model=BASE,
        second_moments=read_second_moments(REFERENCE / "second_moments.safetensors"), context_templates=CONTEXTS,
    )  # fmt: skip


def test_the_frobenius_penalty_is_added_to_the_second_moment(reference_model: tuple[Any, Any]) -> None:
    model, _ = reference_model
    projection = anatomy(model).projections[LAYER]
    moments = read_second_moments(REFERENCE / "second_moments.safetensors")
    generator = torch.Generator().manual_seed(0)
    K = torch.randn(projection.matrix().shape[1], 3, generator=generator, dtype=torch.float64)
    R = torch.randn(projection.matrix().shape[0], 3, generator=generator, dtype=torch.float64)
    C = 50 * moments.matrices[projection.name].double()
    config = get_method("memit").config.from_dict(
        {"layers": [LAYER], "second_moment_weight": 50, "frobenius_weight": 7.0}
    )
    B, A = solve(get_method("memit").precondition(Factorizations(moments), projection, config), K, R, 1.0)
    # The minimum of |Delta K - R|^2 + tr(Delta C Delta^T) + f |Delta|^2.
    normal = K @ K.T + C + 7.0 * torch.eye(C.shape[0], dtype=torch.float64)
    torch.testing.assert_close(B @ A, torch.linalg.solve(normal, K @ R.T).T, rtol=1e-7, atol=1e-10)


def test_a_larger_frobenius_penalty_makes_a_smaller_update(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    norms = []
    for weight in (0.0, 10.0, 1000.0):
        (delta,) = edit(reference_model, requests[:3], frobenius_weight=weight).deltas.values()
        norms.append(float(delta.dense().norm()))
    assert norms[0] > norms[1] > norms[2]


def following_keys(model: Any, tokenizer: Any, requests: list[Request], **options: int) -> Tensor:
    parts = anatomy(model)
    walk = KeyWalk(model, parts, tokenizer, requests, CONTEXTS, parts.layers[LAYER], following=True, **options)
    found = walk.at(LAYER).following
    assert found is not None
    return found


def test_protecting_the_following_tokens_moves_them_less_and_the_subject_as_asked(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    model, tokenizer = reference_model
    parts = anatomy(model)
    name = parts.projections[LAYER].name
    following = following_keys(model, tokenizer, requests[:3])
    expected = sum(
        len(tokenizer(r.text)["input_ids"]) - tokenize_request(tokenizer, r).lookup - 1 for r in requests[:3]
    )
    assert following.shape == (expected, parts.projections[LAYER].matrix().shape[1])
    moved = {}
    for option in (False, True):
        adapter = edit(reference_model, requests[:3], "emmet", a=0, protect_following=option)
        delta = adapter.deltas[name].dense()
        moved[option] = float((delta @ following.T).norm())
        assert adapter.target_values is not None
        asked = adapter.target_values.double() - measure_outputs(model, tokenizer, requests[:3], parts.layers[LAYER])
        torch.testing.assert_close(delta @ adapter.keys[name].double().T, asked.T, rtol=1e-3, atol=1e-4)
    assert moved[True] < 0.5 * moved[False]


def test_following_tokens_of_one_prompt_do_not_depend_on_the_batch(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    model, tokenizer = reference_model
    together = following_keys(model, tokenizer, requests[:3], max_tokens=16)
    alone = [following_keys(model, tokenizer, [r]) for r in requests[:3]]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    ends = Request("Falun Ulul", "Nobody knows {}", "Holren")
    assert following_keys(model, tokenizer, [ends]).shape[0] == 0


def test_more_protected_keys_than_inputs_are_protected_all_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    C = torch.eye(4, dtype=torch.float64)
    keys = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    K = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    found = protect(CholeskyPreconditioner(C), keys)(K)
    torch.testing.assert_close(found, torch.linalg.solve(C + keys @ keys.T, K))


@pytest.fixture
def shared_subject(requests: list[Request]) -> list[Request]:
    subject = requests[0].subject
    return [
        Request(subject, "{} was born in", requests[1].target_new),
        requests[2],
        Request(subject, "{} professionally plays the sport of", requests[0].target_new),
    ]


def test_requests_of_a_subject_share_one_target_value_when_merged(
    reference_model: tuple[Any, Any], shared_subject: list[Request]
) -> None:
    apart = edit(reference_model, shared_subject).target_values
    merged = edit(reference_model, shared_subject, merge_same_subject=True).target_values
    assert apart is not None
    assert merged is not None
    assert not torch.allclose(apart[0], apart[2])
    assert torch.equal(merged[0], merged[2])
    # The request that shares its subject with no other is optimised as ever.
    torch.testing.assert_close(merged[1], apart[1], rtol=1e-4, atol=1e-4)


def test_a_merged_value_serves_both_requests_better_than_two_that_contradict(
    reference_model: tuple[Any, Any], shared_subject: list[Request]
) -> None:
    model, tokenizer = reference_model
    pair = [shared_subject[0], shared_subject[2]]
    parts = anatomy(model)
    config = TargetValueConfig(steps=15)
    merged = optimise_target_values(model, parts, tokenizer, pair, CONTEXTS, LAYER, config, merge_same_subject=True)
    apart = optimise_target_values(model, parts, tokenizer, pair, CONTEXTS, LAYER, config)
    assert len(merged.losses) == 2
    assert merged.losses[0] == merged.losses[1]
    # One value costs more than each one's own, and less than meeting neither.
    assert merged.losses[0] >= min(apart.losses) - 1e-3
    start = optimise_target_values(
        model, parts, tokenizer, pair, CONTEXTS, LAYER, TargetValueConfig(steps=1), merge_same_subject=True
    )
    assert merged.losses[0] < 0.8 * start.losses[0]


def test_merging_changes_nothing_where_no_subject_is_shared(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    assert edit(reference_model, requests[:3]).deltas.keys()
    apart = edit(reference_model, requests[:3]).target_values
    merged = edit(reference_model, requests[:3], merge_same_subject=True).target_values
    assert apart is not None
    assert merged is not None
    assert torch.equal(apart, merged)


def test_rome_meets_its_constraint_at_the_averaged_key_it_divides_by(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    model, tokenizer = reference_model
    parts = anatomy(model)
    projection = parts.projections[LAYER]
    key = measure_keys(model, parts, tokenizer, requests[:1], CONTEXTS, [LAYER])[LAYER][0]
    now = measure_outputs(model, tokenizer, requests[:1], parts.layers[LAYER])[0]
    adapter = edit(reference_model, requests[:1], "rome")
    assert adapter.target_values is not None
    with scratch([projection]):
        moved = adapter.deltas[projection.name].dense() @ key
    torch.testing.assert_close(moved, adapter.target_values[0].double() - now, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adapter.keys[projection.name][0].double(), key, rtol=1e-5, atol=1e-6)
