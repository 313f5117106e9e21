"""Configuration is read in one place, at the level of the language part, and the loaded model is asked first."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from seqedit.forward.access import position_limit
from seqedit.forward.configuration import attention_windows, ordinary_tokens, residual_width, vocabulary_size
from tests.models.architectures import build

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "seqedit" / "forward" / "configuration.py"
FIELDS = {
    "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "vocab_size", "hidden_size", "n_embd", "d_model",
    "num_hidden_layers", "n_layer", "intermediate_size", "tie_word_embeddings", "sliding_window", "bos_token_id",
    "eos_token_id", "pad_token_id", "torch_dtype", "get_text_config", "text_config",
}  # fmt: skip


def direct_reads(source: str) -> list[str]:
    """Reads of a model's configuration that go by nobody: ``x.config.field`` and ``getattr(x.config, "field")``."""

    def is_config(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "config"

    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in FIELDS and is_config(node.value):
            found.append(node.attr)
        if isinstance(node, ast.Attribute) and node.attr == "get_text_config":
            found.append(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            named = node.args[1] if len(node.args) > 1 and is_config(node.args[0]) else None
            if isinstance(named, ast.Constant) and str(named.value) in FIELDS:
                found.append(str(named.value))
    return found


def test_no_other_module_reads_a_models_configuration_for_its_figures() -> None:
    files = [p for folder in ("seqedit", "evals", "ledger") for p in (ROOT / folder).rglob("*.py") if p != PLACE]
    assert {str(p.relative_to(ROOT)): r for p in files if (r := direct_reads(p.read_text("utf-8")))} == {}


def test_a_direct_read_is_seen() -> None:
    assert direct_reads("getattr(model.config, 'vocab_size', 0)\nmodel.config.hidden_size") != []


@pytest.mark.parametrize(
    ("family", "limit"),
    [("Gemma 3, text", 64), ("Gemma 3, multimodal", 64), ("Mistral 3", 64), ("GPT-2", 64), ("OPT", 64), ("MPT", 64),
     ("GPT-Neo", 64), ("BLOOM", None), ("Mamba", None)],
)  # fmt: skip
def test_the_position_limit_is_the_language_parts_under_whatever_name(family: str, limit: int | None) -> None:
    assert position_limit(build(family)) == limit


def test_a_learned_table_with_less_room_than_the_configuration_states_is_the_limit() -> None:
    model = build("GPT-2")
    model.config.n_positions = 4096
    assert position_limit(model) == 64


@pytest.mark.parametrize(
    "family", ["Gemma 3, text", "Gemma 3, multimodal", "Qwen2-VL", "OPT-350m (norm after the sum)"]
)
def test_vocabulary_and_width_are_the_language_parts(family: str) -> None:
    model = build(family)
    assert vocabulary_size(model) == model.get_output_embeddings().weight.shape[0] == 2048
    assert residual_width(model) == 32


def test_a_resized_vocabulary_is_the_output_embeddings() -> None:
    model = LlamaForCausalLM(LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                                         num_key_value_heads=1, vocab_size=100))  # fmt: skip
    model.config.vocab_size = 7
    assert vocabulary_size(model) == 100


def test_windows_of_a_multimodal_models_language_part_are_known() -> None:
    assert attention_windows(build("Gemma 3, multimodal")) == [12]


def test_no_token_that_a_configuration_reserves_stands_for_text() -> None:
    model = build("Gemma 3, multimodal")
    model.config.image_token_index = 3
    tokens = ordinary_tokens(model, 5)
    assert len(set(tokens)) == 5
    assert not {0, 3} & set(tokens)
