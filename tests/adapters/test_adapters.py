"""Adapters: stock PEFT loads them, their content has one digest, damage is named."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.delta import Dense, LowRank
from seqedit.editing.compute import apply_adapter, compute_adapter
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods import get_method
from seqedit.models.anatomy import anatomy
from seqedit.moments.second_moments import SecondMoments

REQUESTS = (
    Request("Venxa Ulmigri", "{} professionally plays the sport of", "golf"),
    Request("Bado Holul", "The sport of {} is", "rowing"),
)


def small_adapter(seed: int = 0, **changes: Any) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    deltas = {
        "transformer.h.2.mlp.c_proj": LowRank(
            torch.randn(128, 2, generator=generator), torch.randn(2, 512, generator=generator)
        ),
        "transformer.h.1.mlp.c_proj": LowRank(
            torch.randn(128, 1, generator=generator), torch.randn(1, 512, generator=generator)
        ),
    }
    fields: dict[str, Any] = {
        "deltas": deltas,
        "requests": REQUESTS,
        "method": {"name": "emmet", "a": 0.1},
        "base_model": BaseModel("somewhere", "ab" * 32),
        "keys": {"transformer.h.2.mlp.c_proj": torch.randn(2, 512, generator=generator)},
        "target_values": torch.randn(2, 128, generator=generator),
        "fan_in_fan_out": True,
    }
    return Adapter(**{**fields, **changes})


def moments_for(model: Any, layers: tuple[int, ...]) -> SecondMoments:
    found = {}
    for projection in anatomy(model).projections_of(layers):
        d_in = projection.matrix().shape[1]
        root = torch.randn(d_in, 2 * d_in, generator=torch.Generator().manual_seed(1))
        found[projection.name] = root @ root.T / (2 * d_in)
    return SecondMoments(found)


@pytest.mark.parametrize("family", ["reference_model", "llama"])
@pytest.mark.parametrize("method", ["rome", "emmet", "memit"])
def test_stock_peft_gives_the_logits_of_the_dense_edit(
    family: str, method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, tokenizer = request.getfixturevalue(family)
    layers = (1,) if method == "rome" else (0, 1, 2)
    config = get_method(method).config.from_dict(
        {"layers": layers, "steps": 5, "second_moment_weight": 5.0, "learning_rate": 0.1}
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    adapter = compute_adapter(
        model, tokenizer, REQUESTS, method, config, base_model=BaseModel("x", "0" * 64),
        second_moments=moments_for(model, layers), context_templates=[["{}"], ["It rained. {}"]],
    )  # fmt: skip
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters()), "the model was left changed"
    adapter.save_pretrained(tmp_path / "adapter")
    dense = copy.deepcopy(model)
    apply_adapter(dense, adapter)
    stock = PeftModel.from_pretrained(copy.deepcopy(model), str(tmp_path / "adapter"))
    ids = torch.tensor([tokenizer("Venxa Ulmigri professionally plays the sport of")["input_ids"]])
    with torch.no_grad():
        expected, found, unedited = (m(input_ids=ids).logits for m in (dense, stock, model))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert float((expected - unedited).abs().max()) > 1e-3, "the edit did nothing"


def test_a_dense_delta_loads_in_stock_peft_too(reference_model: Any, tmp_path: Path) -> None:
    model, tokenizer = reference_model
    delta = torch.randn(128, 512, generator=torch.Generator().manual_seed(3)) * 0.1
    adapter = small_adapter(deltas={"transformer.h.1.mlp.c_proj": Dense(delta)}, keys={}, target_values=None)
    adapter.save_pretrained(tmp_path / "dense")
    dense = copy.deepcopy(model)
    apply_adapter(dense, adapter)
    stock = PeftModel.from_pretrained(copy.deepcopy(model), str(tmp_path / "dense"))
    ids = torch.tensor([tokenizer("Bado Holul competes in")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(stock(input_ids=ids).logits, dense(input_ids=ids).logits, rtol=1e-5, atol=1e-5)
    loaded = Adapter.from_pretrained(tmp_path / "dense")
    assert isinstance(loaded.deltas["transformer.h.1.mlp.c_proj"], Dense)


def test_saving_and_loading_keeps_everything(tmp_path: Path) -> None:
    adapter = small_adapter()
    adapter.save_pretrained(tmp_path / "a")
    loaded = Adapter.from_pretrained(tmp_path / "a")
    assert loaded.digest == adapter.digest
    assert loaded.requests == adapter.requests
    assert loaded.method == adapter.method
    assert loaded.deltas["transformer.h.1.mlp.c_proj"].rank == 1, "padding was not taken off"
    for name, delta in adapter.deltas.items():
        assert torch.equal(loaded.deltas[name].dense(), delta.dense())
    assert loaded.target_values is not None
    assert adapter.target_values is not None
    assert torch.equal(loaded.target_values, adapter.target_values)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    small_adapter().save_pretrained(tmp_path / "a")
    small_adapter().save_pretrained(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_the_digest_is_the_same_under_every_hash_seed() -> None:
    code = "from tests.adapters.test_adapters import small_adapter; print(small_adapter().digest)"
    found = set()
    for seed in ("0", "1", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found.add(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
    assert found == {(small_adapter().digest + "\n").encode()}


def test_the_digest_changes_with_every_part_that_counts() -> None:
    base = small_adapter()
    others = [
        small_adapter(seed=1),
        small_adapter(requests=REQUESTS[:1]),
        small_adapter(method={"name": "memit"}),
        small_adapter(base_model=BaseModel("somewhere", "cd" * 32)),
        small_adapter(target_values=None),
        small_adapter(provenance={"seed": 1}),
    ]
    assert len({base.digest, *(o.digest for o in others)}) == 1 + len(others)
    assert small_adapter(base_model=BaseModel("elsewhere", "ab" * 32)).digest == base.digest


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "seqedit.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    small_adapter().save_pretrained(tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        Adapter.from_pretrained(tmp_path / "a")


def test_altered_content_is_refused(tmp_path: Path) -> None:
    small_adapter().save_pretrained(tmp_path / "a")
    file = tmp_path / "a" / "seqedit.json"
    data = json.loads(file.read_text())
    data["requests"][0]["target_new"] = "chess"
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match="altered"):
        Adapter.from_pretrained(tmp_path / "a")


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match=r"'transformer\.h\.1\.mlp\.c_proj' holds values that are not finite"):
        small_adapter(deltas={"transformer.h.1.mlp.c_proj": Dense(torch.full((2, 2), float("nan")))})


def test_a_used_directory_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty directory"):
        small_adapter().save_pretrained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_adapter_for_another_model_is_refused_before_anything_is_written(llama: Any) -> None:
    model, _ = llama
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(InputError, match="for another model"):
        apply_adapter(model, small_adapter())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
