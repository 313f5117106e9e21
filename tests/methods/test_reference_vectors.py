"""The numerics agree with the public implementations."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqedit.adapters.adapter import BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.keys.measure import measure_keys
from seqedit.methods import get_method
from seqedit.methods.alphaedit import null_space
from seqedit.methods.closed_form import closed_form_edit
from seqedit.methods.interface import Workbench, scratch
from seqedit.methods.registry import weighted_cholesky
from seqedit.models.anatomy import Projection, anatomy
from seqedit.moments.second_moments import SecondMoments
from seqedit.solver.factorizations import Factorizations
from seqedit.solver.preconditioners import Preconditioner, protect
from seqedit.targets.sites import Sublayers
from tests.conftest import REFERENCE

CASES = ["single_layer_batch1", "multi_layer_batch8"]


class Case:
    def __init__(self, name: str, tmp_path: Any) -> None:
        case = json.loads((REFERENCE / name / "case.json").read_text())
        self.h = case["hparams"]
        self.contexts = case["context_templates"]
        file = tmp_path / "records.json"
        file.write_text(json.dumps(case["records"]))
        self.requests = requests_of(load_records(file))
        self.settings = {
            "layers": self.h["layers"],
            "learning_rate": self.h["v_lr"],
            "steps": self.h["v_num_grad_steps"],
            "weight_decay": self.h["v_weight_decay"],
            "clamp_norm_factor": self.h["clamp_norm_factor"],
            "kl_factor": self.h["kl_factor"],
            "second_moment_weight": self.h["mom2_update_weight"],
        }
        self.moments = SecondMoments(load_file(REFERENCE / "second_moments.safetensors"))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("name", CASES)
def test_keys_of_the_unedited_model_agree_to_1e_5(name: str, reference_model: Any, tmp_path: Any) -> None:
    case, (model, tokenizer) = Case(name, tmp_path), reference_model
    expected = load_file(REFERENCE / name / "keys_unedited.safetensors")
    keys = measure_keys(model, anatomy(model), tokenizer, case.requests, case.contexts, case.h["layers"])
    for layer in case.h["layers"]:
        assert relative(keys[layer], expected[f"keys.{layer}"]) < 1e-5


@pytest.mark.parametrize("method", ["emmet", "memit"])
@pytest.mark.parametrize("name", CASES)
def test_deltas_from_the_given_target_values_agree_to_1e_6(
    name: str, method: str, reference_model: Any, tmp_path: Any
) -> None:
    case, (model, tokenizer) = Case(name, tmp_path), reference_model
    expected = load_file(REFERENCE / name / f"{method}.safetensors")
    config = get_method(method).config.from_dict(case.settings)
    parts = anatomy(model)
    factors = Factorizations(case.moments)
    bench = Workbench(
        model, tokenizer, parts, case.contexts,
        lambda projection: weighted_cholesky(factors, projection, config),
    )  # fmt: skip
    a = 1.0 if method == "memit" else (0.0 if len(case.requests) == 1 else 0.1)
    with scratch(parts.projections_of(config.layers)):
        update = closed_form_edit(bench, case.requests, config, a, target_values=expected["z"])
    for layer in update.layers:
        assert relative(layer.delta[0] @ layer.delta[1], expected[f"delta.{layer.projection.name}.weight"].T) < 1e-6


@pytest.mark.parametrize("method", ["emmet", "memit"])
@pytest.mark.parametrize("name", CASES)
def test_an_edit_from_scratch_finds_the_same_target_values_and_deltas(
    name: str, method: str, reference_model: Any, tmp_path: Any
) -> None:
    case, (model, tokenizer) = Case(name, tmp_path), reference_model
    expected = load_file(REFERENCE / name / f"{method}.safetensors")
    config = get_method(method).config.from_dict(case.settings)
    adapter = compute_adapter(
        model, tokenizer, case.requests, method, config,
        base_model=BaseModel("reference", "0" * 64), second_moments=case.moments, context_templates=case.contexts,
    )  # fmt: skip
    assert adapter.target_values is not None
    assert relative(adapter.target_values, expected["z"]) < 5e-3
    for module, delta in adapter.deltas.items():
        assert relative(delta.dense(), expected[f"delta.{module}.weight"].T) < 2e-2


def test_rome_of_one_request_is_the_reference_of_one_request(reference_model: Any, tmp_path: Any) -> None:
    case, (model, tokenizer) = Case("single_layer_batch1", tmp_path), reference_model
    expected = load_file(REFERENCE / "single_layer_batch1" / "emmet.safetensors")
    adapter = compute_adapter(
        model, tokenizer, case.requests, "rome",
        # EMMET's decay and clamp are relative to the layer's output, ROME's own to the FFN's.
        get_method("rome").config.from_dict({**case.settings, "init_norm": "perturbed"}),
        base_model=BaseModel("reference", "0" * 64), second_moments=case.moments, context_templates=case.contexts,
    )  # fmt: skip
    (module,) = adapter.deltas
    assert relative(adapter.deltas[module].dense(), expected[f"delta.{module}.weight"].T) < 1e-4


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("from_given_values", [True, False])
def test_alphaedit_in_batches_is_the_references_with_the_first_batchs_keys_protected(
    name: str, from_given_values: bool, reference_model: Any, tmp_path: Any
) -> None:
    case, (model, tokenizer) = Case(name, tmp_path), reference_model
    folder = REFERENCE / name
    settings = json.loads((folder / "alphaedit.json").read_text())
    expected = load_file(folder / "alphaedit.safetensors")
    # Before any edit the target values are MEMIT's; those of the second batch were not recorded.
    given = load_file(folder / "memit.safetensors")["z"]
    half = max(1, len(case.requests) // 2)
    batches = [b for b in (case.requests[:half], case.requests[half:]) if b]
    config = get_method("alphaedit").config.from_dict(
        {**case.settings, "nullspace_threshold": settings["threshold"], "l2": settings["L2"]}
    )
    parts = anatomy(model)
    factors = Factorizations(case.moments)
    projections = parts.projections_of(config.layers)
    earlier: dict[str, torch.Tensor] = {}

    def precondition(projection: Projection) -> Preconditioner:
        return protect(null_space(factors, projection, config), earlier.get(projection.name))

    bench = Workbench(model, tokenizer, parts, case.contexts, precondition)
    with scratch(projections):
        for number, requests in enumerate(batches):
            z = given[:half] if from_given_values and number == 0 else None
            tolerance = 2e-2 if z is None else 1e-5
            update = closed_form_edit(bench, requests, config, 1.0, target_values=z)
            for layer in update.layers:
                wanted = expected[f"batch{number}.delta.{layer.projection.name}.weight"].T
                assert relative(layer.delta[0] @ layer.delta[1], wanted) < tolerance
                earlier[layer.projection.name] = layer.keys.T


@pytest.mark.parametrize("name", CASES)
def test_pmet_agrees_from_the_given_target_values_and_from_scratch(
    name: str, reference_model: Any, tmp_path: Any
) -> None:
    case, (model, tokenizer) = Case(name, tmp_path), reference_model
    h = json.loads((REFERENCE / name / "pmet.json").read_text())["hparams"]
    expected = load_file(REFERENCE / name / "pmet.safetensors")
    settings = {**case.settings, "kl_factor": h["kl_factor"], "weight_decay": h["v_weight_decay"]}
    config = get_method("pmet").config.from_dict(settings)
    parts = anatomy(model)
    factors = Factorizations(case.moments)
    bench = Workbench(
        model, tokenizer, parts, case.contexts,
        lambda projection: weighted_cholesky(factors, projection, config),
    )  # fmt: skip
    for z, tolerance in ((expected["z_mlp"], 1e-5), (None, 2e-2)):
        with scratch(parts.projections_of(config.layers)):
            update = closed_form_edit(bench, case.requests, config, 1.0, site=Sublayers, target_values=z)
        for layer in update.layers:
            wanted = expected[f"delta.{layer.projection.name}.weight"].T
            assert relative(layer.delta[0] @ layer.delta[1], wanted) < tolerance
