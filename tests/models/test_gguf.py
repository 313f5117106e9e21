"""A GGUF file is a model: converted once, named by its digest, and edited like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqedit.adapters.adapter import BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods import get_method
from seqedit.models.gguf import converted, gguf_source
from seqedit.models.loading import load_model, resolve_model
from seqedit.moments.second_moments import SecondMoments

gguf = pytest.importorskip("gguf")

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _rotated(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp keeps the halves of a rotary pair side by side."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_llama(path: Path, model: Any, tokenizer: Any, *, quantised: bool = False) -> None:
    """A Llama with a byte-level BPE as llama.cpp's converter would write it; feed-forward weights Q8_0 on demand."""
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    data = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    ids = {v: k for k, v in data["vocab"].items()} | {i: t.content for i, t in tokenizer.added_tokens_decoder.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([ids.get(i, f"<unused{i}>") for i in range(config.vocab_size)])
    writer.add_token_types([3 if i in tokenizer.added_tokens_decoder else 1 for i in range(config.vocab_size)])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in data["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    for name, parameter in model.state_dict().items():
        stem, weight = name.removesuffix(".weight"), parameter.float().numpy()
        if stem.startswith("model.layers."):
            number, rest = stem.removeprefix("model.layers.").split(".", 1)
            if rest in ("self_attn.q_proj", "self_attn.k_proj"):
                heads = config.num_attention_heads if "q_proj" in rest else config.num_key_value_heads
                weight = _rotated(weight, heads)
            stem = f"blk.{number}.{_NAMES[rest]}"
        else:
            stem = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[stem]
        if quantised and ".ffn_" in stem and weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stem + ".weight", gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stem + ".weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def written(tmp_path: Path, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    write_llama(tmp_path / "tiny.gguf", *llama)
    return tmp_path / "tiny.gguf"


def test_a_gguf_file_loads_as_the_model_that_was_written(written: Path, llama: tuple[Any, Any]) -> None:
    original, _ = llama
    model, tokenizer = load_model(str(written), device="cpu")
    ids = torch.tensor([tokenizer("Venxa Ulmigri plays golf").input_ids])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, original(ids).logits, atol=1e-5)
    assert tokenizer.decode(tokenizer(" rowing and golf", add_special_tokens=False).input_ids) == " rowing and golf"


def test_a_gguf_file_is_converted_once_and_named_by_its_digest(written: Path, llama: tuple[Any, Any]) -> None:
    first = converted(written)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(str(written)) == str(first)
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    write_llama(written, *llama, quantised=True)
    second = converted(written)
    assert second != first
    assert not list(first.parent.glob(".converting-*"))


def test_an_adapter_names_the_quantised_weights_that_it_was_made_on(written: Path, llama: tuple[Any, Any]) -> None:
    write_llama(written, *llama, quantised=True)
    model, tokenizer = load_model(str(written), device="cpu")
    source = gguf_source(model)
    assert source is not None
    assert source["file"] == "tiny.gguf"
    assert len(source["sha256"]) == 64
    name = "model.layers.1.mlp.down_proj"
    config = get_method("emmet").config.from_dict({"layers": [1], "steps": 2})
    adapter = compute_adapter(
        model, tokenizer, [Request("Venxa Ulmigri", "{} plays", "golf")], "emmet", config,
        base_model=BaseModel(str(written), "0" * 64), second_moments=SecondMoments({name: torch.eye(96)}),
        context_templates=[["{}"]],
    )  # fmt: skip
    assert adapter.provenance["gguf_source"] == source


def test_a_missing_or_foreign_gguf_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no GGUF file at"):
        load_model(str(tmp_path / "absent.gguf"))
    (tmp_path / "text.gguf").write_text("a text")
    with pytest.raises(InputError, match="does not begin with 'GGUF'"):
        load_model(str(tmp_path / "text.gguf"))
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\0\0\0")
    with pytest.raises(InputError, match="no readable GGUF file"):
        load_model(str(tmp_path / "cut.gguf"))
