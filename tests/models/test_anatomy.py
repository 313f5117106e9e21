"""The editable parts are found from the module tree, on every family, without a per-model file."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from seqedit.errors import InputError, ModelError
from seqedit.models.anatomy import anatomy

SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 50}
WIDE = {**SMALL, "intermediate_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT = {"n_embd": 16, "n_layer": 3, "n_head": 4, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 1}

FAMILIES: dict[str, tuple[Any, str, str]] = {
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(**GPT)), "transformer.h.1.mlp.c_proj", "transformer.ln_f"),
    "gptj": (
        lambda: GPTJForCausalLM(GPTJConfig(**GPT, rotary_dim=4)), "transformer.h.1.mlp.fc_out", "transformer.ln_f",
    ),
    "neox": (
        lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**WIDE)),
        "gpt_neox.layers.1.mlp.dense_4h_to_h", "gpt_neox.final_layer_norm",
    ),
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**WIDE)), "model.layers.1.mlp.down_proj", "model.norm"),
    "qwen2": (
        lambda: Qwen2ForCausalLM(Qwen2Config(**WIDE, num_key_value_heads=4)),
        "model.layers.1.mlp.down_proj", "model.norm",
    ),
    "gemma2": (
        lambda: Gemma2ForCausalLM(Gemma2Config(**WIDE, head_dim=8, num_key_value_heads=4)),
        "model.layers.1.mlp.down_proj", "model.norm",
    ),
    "opt": (
        lambda: OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=40, word_embed_proj_dim=16)),
        "model.decoder.layers.1.fc2", "model.decoder.final_layer_norm",
    ),
    "phi": (lambda: PhiForCausalLM(PhiConfig(**WIDE)), "model.layers.1.mlp.fc2", "model.final_layernorm"),
    "falcon": (
        lambda: FalconForCausalLM(FalconConfig(**SMALL, ffn_hidden_size=40)),
        "transformer.h.1.mlp.dense_4h_to_h", "transformer.ln_f",
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_projection_norm_and_head_are_found(family: str) -> None:
    build, projection, norm = FAMILIES[family]
    model = build()
    parts = anatomy(model)
    assert parts.projections[1].name == projection
    assert model.get_submodule(projection) is parts.projections[1].module
    assert parts.final_norm_name == norm
    assert parts.lm_head is model.get_output_embeddings()
    assert len(parts.layers) == 3
    assert parts.projections[1].matrix().shape == (16, 64 if family in ("gpt2", "gptj") else 40)


def test_a_mixture_of_experts_is_refused_with_a_reason() -> None:
    model = MixtralForCausalLM(MixtralConfig(**WIDE, num_key_value_heads=4, num_local_experts=4))
    with pytest.raises(ModelError, match="expert"):
        anatomy(model)


def test_a_model_without_lm_head_is_refused() -> None:
    with pytest.raises(ModelError, match="no LM head"):
        anatomy(LlamaForCausalLM(LlamaConfig(**WIDE)).model)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_writing_a_matrix_changes_the_weight_in_its_own_layout(family: str) -> None:
    projection = anatomy(FAMILIES[family][0]()).projections[0]
    matrix = torch.arange(projection.matrix().numel(), dtype=torch.float32).view(projection.matrix().shape)
    projection.write(matrix)
    assert torch.equal(projection.matrix(), matrix)
    assert projection.weight.shape == (matrix.T.shape if family == "gpt2" else matrix.shape)


@pytest.mark.parametrize(
    ("layers", "message"),
    [([3], "layer 3 is out of range: the model has 3 layers, 0 to 2"), ([-1], "out of range"), ([], "no layers"),
     ([1, 1], "one layer twice")],
)  # fmt: skip
def test_layers_that_do_not_exist_are_named(layers: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        anatomy(FAMILIES["llama"][0]()).check_layers(layers)
