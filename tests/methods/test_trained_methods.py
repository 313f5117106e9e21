"""Fine-tuning and LoRA: their updates take, respect their constraints, and leave the model as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.delta import Dense, LowRank
from seqedit.editing.compute import apply_adapter, compute_adapter
from seqedit.errors import InputError, NumericsError
from seqedit.facts.requests import Request
from seqedit.methods import get_method
from seqedit.methods.training import target_losses, target_prompts
from seqedit.models.anatomy import anatomy
from seqedit.models.fingerprint import fingerprint
from seqedit.models.loading import load_model
from tests.conftest import REFERENCE

BASE = BaseModel("tiny", "0" * 64)
CONTEXTS = [["{}"], ["It rained. {}"]]
SETTINGS: dict[str, dict[str, Any]] = {
    "ft": {"layers": [1, 2], "learning_rate": 5e-3, "steps": 20},
    "lora": {"layers": [1, 2], "learning_rate": 2e-2, "steps": 40, "rank": 4},
}


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    rows = [record["requested_rewrite"] for record in case["records"][:4]]
    return [Request(row["subject"], row["prompt"], row["target_new"]["str"]) for row in rows]


def compute(models: tuple[Any, Any], requests: list[Request], method: str, seed: int = 0, **more: Any) -> Adapter:
    config = get_method(method).config.from_dict({**SETTINGS[method], **more})
    return compute_adapter(
        *models, requests, method, config, base_model=BASE, context_templates=CONTEXTS, seed=seed
    )  # fmt: skip


@pytest.fixture(params=["gpt2", "llama"])
def models(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("reference_model" if request.param == "gpt2" else "llama")


@pytest.mark.parametrize("method", SETTINGS)
def test_training_makes_the_targets_likely_and_leaves_the_model_as_it_was(
    method: str, models: tuple[Any, Any], requests: list[Request]
) -> None:
    model, tokenizer = models
    before, names = fingerprint(model), [name for name, _ in model.named_modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    adapter = compute(models, requests, method)
    assert fingerprint(model) == before
    assert [name for name, _ in model.named_modules()] == names
    assert not hasattr(model, "peft_config")
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    prompts = target_prompts(tokenizer, requests)
    unedited = target_losses(model, prompts).mean()
    saved = {p.name: p.matrix().clone() for p in anatomy(model).projections}
    try:
        apply_adapter(model, adapter)
        edited = target_losses(model, prompts).mean()
    finally:
        for projection in anatomy(model).projections:
            projection.write(saved[projection.name])
    assert edited < 0.75 * unedited
    assert adapter.keys.keys() == adapter.deltas.keys()
    assert adapter.target_values is not None
    assert adapter.provenance["second_moments"] is None


def test_fine_tuning_is_stored_dense_and_lora_in_its_rank(models: tuple[Any, Any], requests: list[Request]) -> None:
    assert all(isinstance(d, Dense) for d in compute(models, requests, "ft", steps=2).deltas.values())
    deltas = compute(models, requests, "lora", steps=2).deltas.values()
    assert all(isinstance(d, LowRank) and d.rank == 4 for d in deltas)


def test_the_norm_constraint_bounds_the_change_of_every_weight(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    free = compute(reference_model, requests, "ft")
    bound = compute(reference_model, requests, "ft", norm_constraint=1e-3)
    assert max(float(d.dense().abs().max()) for d in free.deltas.values()) > 2e-3
    largest = max(float(d.dense().abs().max()) for d in bound.deltas.values())
    assert 0.99e-3 < largest <= 1.001e-3


def test_weight_decay_pulls_the_weights_towards_zero(reference_model: tuple[Any, Any], requests: list[Request]) -> None:
    model, _ = reference_model
    norms = {}
    for decay in (0.0, 10.0):
        adapter = compute(reference_model, requests, "ft", weight_decay=decay, stop_below=0, steps=10)
        by_name = {p.name: p.matrix().double() for p in anatomy(model).projections}
        norms[decay] = sum(float((by_name[n] + d.dense()).norm()) for n, d in adapter.deltas.items())
    assert norms[10.0] < norms[0.0]


@pytest.mark.parametrize("method", SETTINGS)
def test_stock_peft_loads_a_trained_edit(method: str, models: Any, requests: list[Request], tmp_path: Path) -> None:
    import copy

    model, tokenizer = copy.deepcopy(models[0]), models[1]
    adapter = compute(models, requests, method)
    adapter.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([tokenizer(requests[0].text)["input_ids"]])
    dense = copy.deepcopy(model)
    apply_adapter(dense, adapter)
    stock = PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(stock(input_ids=ids).logits, dense(input_ids=ids).logits, rtol=1e-5, atol=2e-5)


def test_lora_is_seeded_and_leaves_the_global_generator_alone(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    state = torch.get_rng_state()
    first = compute(reference_model, requests, "lora", steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert compute(reference_model, requests, "lora", steps=3).digest == first.digest
    assert compute(reference_model, requests, "lora", steps=3, seed=1).digest != first.digest


def test_lora_refuses_a_model_that_holds_peft_adapters(requests: list[Request]) -> None:
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load_model(str(REFERENCE / "model"))
    wrapped = get_peft_model(model, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    with pytest.raises(InputError, match="PEFT adapters already"):
        compute((wrapped.get_base_model(), tokenizer), requests, "lora")


def test_bfloat16_weights_are_trained_through_float32_masters(requests: list[Request]) -> None:
    model, tokenizer = load_model(str(REFERENCE / "model"), dtype="bfloat16")
    prompts = target_prompts(tokenizer, requests)
    before = target_losses(model, prompts).mean()
    # Steps far smaller than bfloat16's spacing add up all the same.
    apply_adapter(model, compute((model, tokenizer), requests, "ft", learning_rate=2e-4, steps=40))
    assert target_losses(model, prompts).mean() < 0.9 * before


@pytest.mark.parametrize(
    ("method", "setting", "value"),
    [("ft", "learning_rate", 0), ("ft", "norm_constraint", -1), ("ft", "steps", 0), ("lora", "rank", 0)],
)
def test_settings_out_of_range_are_refused_by_name(method: str, setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"'{setting}'"):
        get_method(method).config.from_dict({setting: value})


def test_a_diverging_training_is_an_error_and_the_model_stays(
    reference_model: tuple[Any, Any], requests: list[Request]
) -> None:
    model, _ = reference_model
    before = fingerprint(model)
    with pytest.raises(NumericsError, match="learning_rate"):
        compute(reference_model, requests, "ft", learning_rate=1e30)
    assert fingerprint(model) == before
