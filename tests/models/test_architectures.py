"""The architecture matrix: what is promised for every family, proved on a tiny model of its real configuration."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from transformers.utils import logging

from seqedit.adapters.adapter import Adapter
from seqedit.editing.compute import apply_adapter
from seqedit.errors import InputError, ModelError
from seqedit.keys.measure import measure_keys, measure_outputs
from seqedit.keys.walk import KeyWalk
from seqedit.models.anatomy import anatomy
from seqedit.targets.sites import LayerOutput
from seqedit.text.lookup import tokenize_request
from tests.models import architectures as matrix
from tests.models.architectures import BARE, CONTEXTS, EDITED, FAMILIES, LAYER, REFUSED, REQUESTS, WHOLE, build, edit

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "supported-models.md"
ATTENTION = {
    "GPT-2": ["c_attn"],
    "Llama": ["q_proj", "v_proj"],
    "OPT": ["q_proj", "v_proj"],
    "Gemma 2": ["q_proj", "v_proj"],
}
"""The families that devices and wrappers are tried on, with the modules of a usual LoRA: a Conv1D, a Linear, an FFN
that runs on flattened tokens, a norm after the FFN."""


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """No lines about the tiny models' generation settings."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(verbosity)


@dataclass(frozen=True)
class Case:
    """A family's model with one batch of edits under the strict constraint, not applied."""

    family: str
    model: Any
    tokenizer: Any
    adapter: Adapter


@pytest.fixture(scope="module", params=WHOLE)
def case(request: pytest.FixtureRequest) -> Case:
    model, tokenizer = build(request.param), matrix.load_tokenizer()
    return Case(request.param, model, tokenizer, edit(model, tokenizer))


def snapshot(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def unchanged(model: Any, before: dict[str, torch.Tensor]) -> bool:
    return all(p.is_meta or torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_committed_table_is_the_generated_one() -> None:
    committed = PAGE.read_text("utf-8")
    assert committed.partition(matrix.MEASURED)[0] == matrix.fixed_part(), (
        "run python -m tests.models.architectures --write docs/reference/supported-models.md"
    )
    measured = committed.partition(matrix.MEASURED)[2]
    assert all(f"\n| {name} | " in measured for name in WHOLE)


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_cannot_be_edited_is_refused_with_its_reason(family: str) -> None:
    with pytest.raises(ModelError, match=FAMILIES[family].refused):
        anatomy(build(family))


def _sorted_by_cost(names: list[str]) -> list[Any]:
    return [name if FAMILIES[name].quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("family", _sorted_by_cost([name for name in EDITED if name not in WHOLE]))
def test_a_family_is_edited_where_it_was_proven_and_stock_peft_agrees(family: str) -> None:
    model, tokenizer = build(family), matrix.load_tokenizer()
    parts, wanted = anatomy(model), FAMILIES[family]
    assert parts.projections.layers == (wanted.only or tuple(range(len(parts.layers))))
    several = edit(model, tokenizer, "memit", layers=matrix.two_layers(model), learning_rate=wanted.learning_rate)
    difference, effect = matrix.peft_difference(model, tokenizer, several)
    assert difference < 1e-5 * max(1.0, effect)
    assert effect > 1e-2, "the edit did nothing"
    adapter = edit(model, tokenizer, learning_rate=wanted.learning_rate)
    assert adapter.target_values is not None
    assert matrix.relative(matrix.values_now(model, tokenizer), adapter.target_values) > 0.05, "nothing was asked for"
    assert matrix.distance_left(model, tokenizer, adapter) < 5e-6


def test_layers_without_a_feed_forward_block_are_named_with_those_that_have_one() -> None:
    parts = anatomy(build("LFM2-MoE"))
    with pytest.raises(InputError, match=r"layer 'model\.layers\.2' is a mixture of experts .* can be edited: 0 to 1"):
        parts.check_layers([1, 2])
    assert parts.nearest_layers([2]) == (1,)
    assert parts.attention_output(2).name == "model.layers.2.self_attn.out_proj"


def test_the_projection_of_a_per_layer_embedding_is_not_taken_for_the_ffn() -> None:
    parts = anatomy(build("Gemma 4, text"))
    assert [p.name for p in parts.projections] == [f"model.layers.{i}.mlp.down_proj" for i in range(3)]


def test_whether_an_output_is_added_as_it_is_is_told_of_each_layer() -> None:
    model = build("Gemma 4, text")
    for layer in model.model.layers:
        layer.hidden_size_per_layer_input = 0  # its embedding reads what the FFN wrote
        layer.post_feedforward_layernorm = torch.nn.Identity()
    model.model.layers[2].layer_scalar.fill_(0.5)
    parts = anatomy(model)
    assert [parts.adds_output_of(i) for i in range(3)] == [True, True, False]
    assert not parts.adds_ffn_output


def test_a_module_that_runs_more_than_once_for_a_token_is_refused() -> None:
    model = build("Llama")
    model.model.layers[2] = model.model.layers[1]
    with pytest.raises(ModelError, match="2 times for each token"):
        anatomy(model)


def test_weights_that_layers_share_are_refused() -> None:
    model = build("Llama")
    model.model.layers[2].mlp.down_proj.weight = model.model.layers[1].mlp.down_proj.weight
    parts = anatomy(model)
    assert parts.projections.layers == (0,)
    with pytest.raises(InputError, match="shares its weight"):
        parts.check_layers([2])


@pytest.mark.parametrize(
    "family", ["Llama", "Gemma 4, text", "Gemma 3, multimodal", "DeepSeek V3", "Qwen2-MoE", "LFM2"]
)
def test_without_weights_the_module_tree_gives_what_the_loaded_model_proves(family: str) -> None:
    with torch.device("meta"):
        empty = build(family)
    assert [p.name for p in anatomy(empty).projections] == [p.name for p in anatomy(build(family)).projections]


def test_a_dense_ffn_whose_two_layers_stand_in_the_decoder_layer_is_told_from_attention_by_what_it_reads() -> None:
    parts = anatomy(build("OPT"))
    assert parts.mixers == dict.fromkeys(range(3), "self_attn.out_proj")


def test_under_the_strict_constraint_the_model_reaches_the_target_values(case: Case) -> None:
    now = matrix.values_now(case.model, case.tokenizer)
    wanted = case.adapter.target_values
    assert wanted is not None
    assert matrix.relative(now, wanted) > 0.05, "the edit asks for nothing, so it proves nothing"
    assert matrix.distance_left(case.model, case.tokenizer, case.adapter) < 5e-6
    # And in the weights: W_new k = W k + R, with the weight as it is after rounding to float32.
    name = anatomy(case.model).projections[LAYER].name
    edited = copy.deepcopy(case.model)
    apply_adapter(edited, case.adapter)
    before, after = (anatomy(m).projections[LAYER].matrix().double() for m in (case.model, edited))
    moved = (after - before) @ case.adapter.keys[name].double().T
    assert matrix.relative(moved.T, wanted - now) < 5e-6


def test_keys_averaged_over_contexts_meet_the_strict_constraint_too(case: Case) -> None:
    adapter = edit(case.model, case.tokenizer, contexts=CONTEXTS)
    (delta,) = adapter.deltas.values()
    (keys,) = adapter.keys.values()
    assert adapter.target_values is not None
    residual = adapter.target_values - matrix.values_now(case.model, case.tokenizer)
    assert matrix.relative(delta.dense() @ keys.double().T, residual.T) < 5e-6


def test_pmets_ffn_output_reaches_its_target_value(case: Case) -> None:
    adapter = edit(case.model, case.tokenizer, "pmet")
    edited = copy.deepcopy(case.model)
    apply_adapter(edited, adapter)
    assert adapter.target_values is not None
    outputs = [
        measure_outputs(m, case.tokenizer, REQUESTS, anatomy(m).projections[LAYER].module) for m in (case.model, edited)
    ]
    assert matrix.relative(outputs[0], adapter.target_values) > 0.05
    assert matrix.relative(outputs[1], adapter.target_values) < 5e-6


def test_stock_peft_gives_the_logits_of_the_dense_edit(case: Case) -> None:
    several = edit(case.model, case.tokenizer, "memit", layers=[0, LAYER], a=1.0, contexts=CONTEXTS)
    difference, effect = matrix.peft_difference(case.model, case.tokenizer, several)
    assert difference < 1e-5
    assert effect > 1e-2, "the edit did nothing"


def test_padding_side_and_batch_size_do_not_change_the_deltas(case: Case) -> None:
    # Adam divides by the root of the squared gradient, so rounding in a forward pass comes out amplified.
    assert matrix.batching_difference(case.model) < 1e-5


def test_a_bos_moves_the_lookup_token_by_one_and_leaves_the_targets_alone() -> None:
    plain, with_bos = matrix.load_tokenizer(), matrix.load_tokenizer(bos=True)
    bos = with_bos.convert_tokens_to_ids(matrix.BOS)
    for request in REQUESTS:
        for template in (*CONTEXTS[0], *CONTEXTS[1]):
            short, long = (tokenize_request(t, request, template, with_target=True) for t in (plain, with_bos))
            assert long.ids == (bos, *short.ids)
            assert long.lookup == short.lookup + 1
            assert long.target_start == short.target_start + 1
            assert long.target_ids == short.target_ids
            assert bos not in long.target_ids


def test_with_a_bos_the_key_is_the_subjects_and_the_constraint_is_met(case: Case) -> None:
    tokenizer = matrix.load_tokenizer(bos=True)
    parts = anatomy(case.model)
    keys = measure_keys(case.model, parts, tokenizer, REQUESTS, BARE, [LAYER])[LAYER]
    for request, key in zip(REQUESTS, keys, strict=True):
        ids, seen = tokenizer(request.prompt.format(request.subject))["input_ids"], []
        end = tokenizer(request.prompt.partition("{}")[0] + request.subject)["input_ids"]
        handle = parts.projections[LAYER].module.register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(args[0].reshape(-1, args[0].shape[-1]))
        )
        with torch.no_grad():
            case.model(input_ids=torch.tensor([ids]))
        handle.remove()
        assert ids[: len(end)] == end
        torch.testing.assert_close(key.float(), seen[0][len(end) - 1], rtol=1e-4, atol=1e-5)
    assert matrix.distance_left(case.model, tokenizer, edit(case.model, tokenizer)) < 5e-6


@pytest.mark.parametrize(("dtype", "left"), [(torch.bfloat16, 0.05), (torch.float16, 0.006)])
def test_half_precision_weights_take_the_edit_up_to_their_rounding(case: Case, dtype: torch.dtype, left: float) -> None:
    model = build(case.family, dtype)
    adapter = edit(model, case.tokenizer)
    (delta,), (keys,) = adapter.deltas.values(), adapter.keys.values()
    assert adapter.target_values is not None
    parts = anatomy(model)
    module = LayerOutput(parts, LAYER).value_module()
    # As the edit measures it: in half precision a row's last bits depend on what stands beside it.
    now = KeyWalk(model, parts, case.tokenizer, REQUESTS, BARE, module).at(LAYER).outputs
    residual = adapter.target_values.double() - now
    assert matrix.relative(delta.dense() @ keys.double().T, residual.T) < 5e-6, "not solved in double precision"
    assert matrix.distance_left(model, case.tokenizer, adapter) < left
    assert anatomy(model).adds_ffn_output == anatomy(case.model).adds_ffn_output
    assert next(model.parameters()).dtype is dtype


def placed(family: str, folder: Path, offloaded: int | str | None) -> Any:
    """A model dispatched by accelerate, hooks on every part, with one layer or the embedding on disk."""
    model = build(family)
    layers = anatomy(model).layer_names
    others = [n for n, m in model.named_modules() if n and not list(m.children()) and not n.startswith(layers[0][:-1])]
    places = {**dict.fromkeys(others, "cpu"), **dict.fromkeys(layers, "cpu")}
    if isinstance(offloaded, int):
        places[layers[offloaded]] = "disk"
    elif offloaded:
        embedding = model.get_input_embeddings()
        places[next(name for name, module in model.named_modules() if module is embedding)] = "disk"
    return dispatch_model(model, places, main_device="cpu", offload_dir=str(folder), force_hooks=True)


# An embedding that is tied to the LM head stays in memory whatever the device map says, so only Llama's is tried.
@pytest.mark.parametrize(
    ("family", "offloaded"), [*((f, n) for f in ATTENTION for n in (None, 0, 2)), ("Llama", "embedding")]
)
def test_a_dispatched_model_gives_the_plain_models_deltas(
    family: str, offloaded: int | str | None, tmp_path: Path
) -> None:
    tokenizer = matrix.load_tokenizer()
    plain = matrix.delta_of(edit(build(family), tokenizer))
    model = placed(family, tmp_path, offloaded)
    if isinstance(offloaded, int):
        assert anatomy(model).projections[offloaded].weight.is_meta
    assert model.get_input_embeddings().weight.is_meta == (offloaded == "embedding")
    adapter = edit(model, tokenizer)
    assert matrix.relative(matrix.delta_of(adapter), plain) < 1e-6
    apply_adapter(model, adapter)  # its hooks run the weight that was written, not a copy
    assert adapter.target_values is not None
    assert matrix.relative(matrix.values_now(model, tokenizer), adapter.target_values) < 5e-6


@pytest.mark.parametrize("family", ATTENTION)
def test_an_edit_of_offloaded_weights_is_refused_and_nothing_is_written(family: str, tmp_path: Path) -> None:
    tokenizer, plain = matrix.load_tokenizer(), build(family)
    model = placed(family, tmp_path, LAYER)
    before = snapshot(model)
    with pytest.raises(ModelError, match=r"layers?\.1\.|h\.1\.") as computing:
        edit(model, tokenizer)
    assert "offloaded" in str(computing.value)
    both = edit(plain, tokenizer, "memit", layers=[0, LAYER], a=1.0)
    with pytest.raises(ModelError, match="offloaded"):
        apply_adapter(model, both)
    assert unchanged(model, before), "layer 0 was written although layer 1 could not be"


@pytest.mark.parametrize("on", ["attention", "the edited projection", "both"])
@pytest.mark.parametrize("family", ATTENTION)
def test_a_model_with_a_lora_is_edited_and_the_adapter_loads_on_its_base(family: str, on: str) -> None:
    tokenizer, base = matrix.load_tokenizer(), build(family)
    projection = anatomy(base).projections[LAYER]
    targets = {
        "attention": ATTENTION[family], "the edited projection": [projection.name],
        "both": [*ATTENTION[family], projection.name.rpartition(".")[2]],
    }[on]  # fmt: skip
    torch.manual_seed(1)
    config = LoraConfig(
        target_modules=targets, r=2, task_type="CAUSAL_LM", init_lora_weights=False,
        fan_in_fan_out=projection.transposed,
    )  # fmt: skip
    model = get_peft_model(build(family), config)
    before = snapshot(model)
    adapter = edit(model, tokenizer)
    assert unchanged(model, before)
    assert list(adapter.deltas) == [projection.name]
    assert matrix.distance_left(model, tokenizer, adapter) < 5e-6
    assert matrix.relative(matrix.delta_of(adapter), matrix.delta_of(edit(base, tokenizer))) > 0.01, (
        "the LoRA was ignored"
    )
    difference, effect = matrix.peft_difference(base, tokenizer, adapter)
    assert difference < 1e-5
    assert effect > 1e-2


def test_a_model_with_virtual_tokens_is_refused() -> None:
    model = get_peft_model(build("Llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ModelError, match="virtual tokens"):
        anatomy(model)


@pytest.mark.parametrize("config", [LoraConfig(use_dora=True, r=2), IA3Config(feedforward_modules=[])])
def test_a_wrapper_that_scales_the_edited_projection_is_refused(config: Any) -> None:
    config.target_modules, config.task_type = ["down_proj"], "CAUSAL_LM"
    with pytest.raises(ModelError, match=r"'model\.layers\.0\.mlp\.down_proj' carries a PEFT layer"):
        anatomy(get_peft_model(build("Llama"), config))
