"""Norms of target values: anchored to pilot facts (NAS), and held within a trust region of the update's norm in C."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.editing.pilot import PILOT
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_outputs
from seqedit.methods import get_method
from seqedit.models.anatomy import anatomy
from seqedit.models.loading import load_model
from seqedit.moments.store import read_second_moments
from seqedit.solver.preconditioners import CholeskyPreconditioner, NullSpacePreconditioner, preserved_norm
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.norms import anchor_norm, anchored, trust_limits
from seqedit.targets.sites import Sublayers
from seqedit.targets.values import optimise_target_values
from tests.conftest import REFERENCE
from tests.session.test_sequence import CONTEXTS, session

__all__ = ["session"]
LAYER = 2
NAME = f"transformer.h.{LAYER}.mlp.c_proj"
MOMENTS = read_second_moments(REFERENCE / "second_moments.safetensors")


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    rows = [record["requested_rewrite"] for record in case["records"]]
    return [Request(row["subject"], row["prompt"], row["target_new"]["str"]) for row in rows]


def config(method: str = "memit", **settings: Any) -> Any:
    base = {"layers": [LAYER], "spread": "single", "steps": 8, "second_moment_weight": 50}
    return get_method(method).config.from_dict({**base, **settings})


def edit(models: tuple[Any, Any], asked: list[Request], method: str = "memit", **settings: Any) -> Adapter:
    return compute_adapter(
        *models, asked, method, config(method, **settings), base_model=BaseModel("tiny", "0" * 64),
        second_moments=MOMENTS, context_templates=CONTEXTS,
    )  # fmt: skip


def values_of(models: tuple[Any, Any], asked: list[Request], site: Any = None, **given: Any) -> Any:
    parts, settings = anatomy(models[0]), TargetValueConfig.from_dict(given.pop("settings", {"steps": 8}))
    place = None if site is None else site(parts, LAYER)
    return optimise_target_values(models[0], parts, models[1], asked, CONTEXTS, LAYER, settings, site=place, **given)


@pytest.mark.parametrize("site", [None, Sublayers])
def test_values_are_rescaled_as_published_and_their_loss_is_looked_at_again(
    site: Any, reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    model, tokenizer = reference_model
    free = values_of(reference_model, requests[:4], site)
    at_rest = measure_outputs(model, tokenizer, requests[:4], anatomy(model).projections[LAYER].module).float()
    found_there = at_rest + free.values - free.initial
    norms = found_there.norm(dim=1)
    norm = float(norms.sort().values[:2].mean() / 1.02)  # such that some are rescaled; below, that some are given up
    for m in (norm, float(norms.max()) / 1.9, float(norms.median()) / 2.0001):
        found = values_of(reference_model, requests[:4], site, norm=m)
        residual = found.initial - at_rest  # what else is in the stream
        for i in range(4):
            v = found_there[i] * m / norms[i] if norms[i] <= 2 * m else at_rest[i]
            torch.testing.assert_close(found.values[i], residual[i] + v, rtol=1e-4, atol=1e-4)
        assert found.updates == free.updates
        changed = [i for i in range(4) if norms[i] <= 2 * m or free.updates[i]]
        assert all(found.losses[i] != free.losses[i] for i in changed)
    skipped = values_of(reference_model, requests[:4], site, norm=1e-3)
    torch.testing.assert_close(skipped.values, skipped.initial)


def test_the_rescaled_loss_is_that_of_the_rescaled_value(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    """With one step nothing is moved but by rescaling; the loss is then the model's own with the value put in."""
    model, tokenizer = reference_model
    settings = {"steps": 1, "kl_factor": 0, "weight_decay": 0}
    at_rest = measure_outputs(model, tokenizer, requests[:1], anatomy(model).projections[LAYER].module)
    twice = values_of(reference_model, requests[:1], norm=2 * float(at_rest.norm()), settings=settings)
    torch.testing.assert_close(twice.values - twice.initial, at_rest.float(), rtol=1e-4, atol=1e-5)
    before = values_of(reference_model, requests[:1], settings=settings)
    assert twice.losses != before.losses


def test_the_anchor_is_the_mean_without_the_largest_and_zero_is_no_division() -> None:
    norms = torch.arange(1.0, 41.0)
    assert anchor_norm(norms.unsqueeze(1)) == pytest.approx(float(norms[:38].mean()))
    assert anchor_norm(torch.tensor([[3.0, 4.0]])) == 5
    rest = torch.zeros(1, 3)
    assert torch.equal(anchored(rest, rest, 2.0), rest)


def test_pilot_facts_are_found_once_on_the_unedited_model(
    session: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(target_norm="pilot")
    one = session.ledger.adapter(session.edit(requests[:2], "memit", settings))
    norm = one.provenance["target_norms"][str(LAYER)]
    calls = []
    monkeypatch.setattr("seqedit.editing.editor.pilot_norm", lambda *args: calls.append(args))
    two = session.ledger.adapter(session.edit(requests[2:4], "memit", settings))
    assert two.provenance["target_norms"][str(LAYER)] == norm
    assert not calls
    fresh = load_model(str(REFERENCE / "model"))
    parts, plain = anatomy(fresh[0]), TargetValueConfig(steps=8)
    found = optimise_target_values(*(fresh[0], parts, fresh[1]), PILOT, [["{}"]], LAYER, plain)
    rest = measure_outputs(*fresh, PILOT, parts.projections[LAYER].module)
    values = rest + (found.values - found.initial)
    assert norm == pytest.approx(float(values.norm(dim=1).sort().values[:-1].mean()), rel=1e-6)
    # The number in its place gives the same batch.
    session.restore()
    same = session.compute_on([], requests[:2], "memit", replace(settings, target_norm=norm))
    torch.testing.assert_close(same.deltas[NAME].dense(), one.deltas[NAME].dense(), rtol=1e-5, atol=1e-7)
    assert "target_norms" not in same.provenance


def test_without_a_session_the_norm_is_to_be_a_number(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    with pytest.raises(InputError, match="give the norm as a number"):
        edit(reference_model, requests[:1], target_norm="pilot")
    for bad in (0, -1, "large"):
        with pytest.raises(InputError, match="'target_norm'"):
            config(target_norm=bad)
    assert config(target_norm="12.5").target_norm == 12.5


def weighed(delta: Tensor, C: Tensor) -> float:
    """tr(Delta C Delta^T)."""
    return float((delta @ C * delta).sum())


@pytest.mark.parametrize(("method", "a"), [("memit", 1.0), ("memit", 0.3), ("emmet", 0.0), ("rome", 0.0)])
@pytest.mark.parametrize("bound", [0.002, 0.02])
def test_the_update_of_a_lone_request_is_within_the_region(
    method: str, a: float, bound: float, reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    W = anatomy(reference_model[0]).projections[LAYER].matrix().double()
    C = 50 * MOMENTS.matrices[NAME].double()
    asked = requests[:1]
    free = edit(reference_model, asked, method, a=a)
    held = edit(reference_model, asked, method, a=a, trust_region=bound)
    limit = bound**2 * weighed(W, C)
    assert weighed(free.deltas[NAME].dense(torch.float64), C) > limit
    # At the bound, as it asks for more than it is allowed: met from below to rounding (of z in float32).
    assert weighed(held.deltas[NAME].dense(torch.float64), C) == pytest.approx(limit, rel=1e-4)
    assert (free.provenance["diagnosis"]["bounded"], held.provenance["diagnosis"]["bounded"]) == (0, 1)


def test_limits_are_met_by_every_perturbation(reference_model: tuple[Any, Any], requests: list[Request]) -> None:
    free = values_of(reference_model, requests[:5])
    sizes = (free.values - free.initial).norm(dim=1)
    limits = [float(size) * share for size, share in zip(sizes, (0.1, 0.5, 0.9, 2.0, 3.0), strict=True)]
    for more in ({}, {"norm": float(sizes.mean())}, {"settings": {"steps": 8, "init_norm": "ffn"}}):
        found = values_of(reference_model, requests[:5], limits=limits, **more)
        moved = (found.values - found.initial).double().norm(dim=1)
        assert bool((moved <= torch.tensor(limits).double() * (1 + 1e-6)).all())
        assert all(found.bounded[:2])
    # Only the last of two perturbations is written, so only that is held back.
    two = values_of(reference_model, requests[:5], Sublayers, limits=limits)
    assert bool(((two.values - two.initial).norm(dim=1) <= torch.tensor(limits) * (1 + 1e-6)).all())
    # One value for a subject is within the least of its requests' limits.
    pair = [requests[0], replace(requests[0], prompt="{} was born in", target_new=requests[1].target_new)]
    shared = values_of(reference_model, pair, limits=[1.0, 0.5], merge_same_subject=True)
    assert float((shared.values - shared.initial).norm(dim=1).max()) <= 0.5 * (1 + 1e-6)


def test_the_limit_is_where_the_closed_forms_norm_says() -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(30, 8, generator=generator, dtype=torch.float64)
    C, W = X.T @ X, torch.randn(5, 8, generator=generator, dtype=torch.float64)
    inner = CholeskyPreconditioner(torch.linalg.cholesky(C))
    assert preserved_norm(inner, W) == pytest.approx(weighed(W, C) ** 0.5)
    for a in (0.0, 0.1, 1.0):
        k = torch.randn(8, 1, generator=generator, dtype=torch.float64)
        q = (k.T @ inner(k)).flatten()
        (limit,) = trust_limits(q, a, 0.1, preserved_norm(inner, W))
        r = torch.randn(5, 1, generator=generator, dtype=torch.float64)
        delta = r / r.norm() * limit @ inner(k).T / (q + a)
        assert weighed(delta, C) == pytest.approx(0.01 * weighed(W, C))
    basis = torch.linalg.qr(torch.randn(8, 3, generator=generator, dtype=torch.float64)).Q
    null = NullSpacePreconditioner(basis, 4.0)
    assert preserved_norm(null, W) == pytest.approx(2 * float((W @ basis).norm()))
    assert preserved_norm(null.with_keys(torch.zeros(1, 8)), W) == pytest.approx(preserved_norm(null, W))
    with pytest.raises(InputError, match="trust_region"):
        preserved_norm(object(), W)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "more"),
    [("alphaedit", {"nullspace_threshold": 1.0}), ("pmet", {}), ("memit", {"protect_following": True}),
     ("memit", {"spread": "even", "layers": [1, 2]}), ("memit", {"spread": "boundary", "layers": [1, 2]}),
     ("memit", {"spread": "replay", "layers": [1, 2]}), ("memit", {"sequence": "joint"})],
)  # fmt: skip
def test_a_small_region_makes_a_small_update_everywhere(
    method: str, more: Any, reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    sizes = []
    for settings in ({}, {"trust_region": 1e-4}):
        found = edit(reference_model, requests[:2], method, **{**more, **settings})
        sizes.append([float(delta.dense().norm()) for delta in found.deltas.values()])
        if method != "pmet":  # attention's perturbation ends at the clamp
            assert found.provenance["diagnosis"]["bounded"] == (2 if settings else 0)
    assert sizes[1][0] < 0.2 * sizes[0][0]
    assert max(sizes[1]) < 0.2 * max(sizes[0])
    fault = found.provenance["diagnosis"]["faults"][0]
    assert (fault["setting"], fault["proposed"]) == ("trust_region", 2e-4)


def test_a_region_and_a_norm_that_bind_nothing_change_nothing(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    plain = edit(reference_model, requests[:3])
    wide = edit(reference_model, requests[:3], trust_region=1e6)
    assert torch.equal(plain.deltas[NAME].dense(), wide.deltas[NAME].dense())
    with pytest.raises(InputError, match="'trust_region' must be greater than 0"):
        config(trust_region=0)
    with pytest.raises(InputError, match="published_keys"):
        config("rome", trust_region=1, published_keys=True)


def test_a_revert_is_exact_and_peft_loads_it(session: Any, requests: list[Request], tmp_path: Path) -> None:
    before = {name: p.detach().clone() for name, p in session.edited.model.named_parameters()}
    entry = session.edit(requests[:2], "memit", config(target_norm=20, trust_region=0.05))
    edited = session.edited.model.get_submodule(NAME).weight.detach().clone()
    session.ledger.adapter(entry).save_pretrained(tmp_path / "adapter")
    model, _ = load_model(str(REFERENCE / "model"))
    stock = PeftModel.from_pretrained(model, str(tmp_path / "adapter")).merge_and_unload()
    torch.testing.assert_close(stock.get_submodule(NAME).weight, edited, rtol=1e-5, atol=1e-6)
    session.revert(entry.id)
    assert all(torch.equal(p, before[name]) for name, p in session.edited.model.named_parameters())
