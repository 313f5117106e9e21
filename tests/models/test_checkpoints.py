"""A checkpoint must be what it says: each way in which one is not is one line that names it, with nothing begun."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from seqedit.cli.main import run
from seqedit.errors import EnvironmentFailure, ModelError
from seqedit.models.checkpoint import check_fields, how, named
from seqedit.models.edited import EditedModel
from seqedit.models.fingerprint import fingerprint
from seqedit.models.loading import load_model
from seqedit.models.names import check_model
from tests.conftest import REFERENCE

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 2048,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip


def save(directory: Path, of: str = "LlamaForCausalLM", shard: str = "1GB", **fields: Any) -> Path:
    """A tiny random model of a class of transformers, saved as its users would, with the reference tokenizer."""
    torch.manual_seed(0)
    made = getattr(transformers, of)
    made(made.config_class(**{**SIZES, **fields})).save_pretrained(directory, max_shard_size=shard)
    AutoTokenizer.from_pretrained(REFERENCE / "model").save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("whole") / "m")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("sharded") / "m", shard="100KB")


def config(directory: Path, **fields: Any) -> None:
    """Change fields of config.json; None takes one out."""
    found = {**json.loads((directory / "config.json").read_text()), **fields}
    (directory / "config.json").write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


def weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]]) -> None:
    """Change the tensors of model.safetensors."""
    file = directory / "model.safetensors"
    save_file(dict(change(load_file(file))), file, metadata={"format": "pt"})


def halve(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")


def beside(directory: Path, *, alone: bool = False) -> None:
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "me/b"}))
    if alone:
        (directory / "config.json").unlink()


def refused(directory: Path, capsys: Any) -> str:
    """The one line that a verb says, which ends with code 2 and makes no ledger."""
    capsys.readouterr()
    ledger = directory.parent / "ledger"
    assert run(["init", "--model", str(directory), "--ledger", str(ledger)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("seqedit: ")
    assert not ledger.exists()
    return str(line)


GONE = "is no whole safetensors file (cut off or damaged)"
FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut off": (lambda d: halve(d / "model.safetensors"), GONE),
    "one byte short": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-1]), GONE,
    ),
    "one byte long": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes() + b"x"), GONE,
    ),
    "empty weights": (lambda d: (d / "model.safetensors").write_bytes(b""), "model.safetensors is empty"),
    "three bytes": (lambda d: (d / "model.safetensors").write_bytes(b"abc"), GONE),
    "a page of HTML": (lambda d: (d / "model.safetensors").write_text("<!doctype html>" * 9), GONE),
    "header not JSON": (
        lambda d: (d / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"notjson!"), GONE,
    ),
    "git-LFS weights": (lambda d: pointer(d / "model.safetensors"), "is a git-LFS pointer"),
    "git-LFS tokenizer": (lambda d: pointer(d / "tokenizer.json"), "tokenizer.json is a git-LFS pointer"),
    "git-LFS configuration": (lambda d: pointer(d / "config.json"), "config.json is a git-LFS pointer"),
    "pickled only": (
        lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "pickled weights are never loaded",
    ),
    "another file name": (
        lambda d: (d / "model.safetensors").rename(d / "weights.safetensors"),
        "it has weights.safetensors, but neither model.safetensors nor",
    ),
    "weights a directory": (
        lambda d: ((d / "model.safetensors").unlink(), (d / "model.safetensors").mkdir()), "holds no weights",
    ),
    "no configuration": (lambda d: (d / "config.json").unlink(), "config.json is missing"),
    "configuration cut off": (lambda d: halve(d / "config.json"), "config.json is no JSON"),
    "configuration empty": (lambda d: (d / "config.json").write_text(""), "config.json is no JSON (it is empty)"),
    "configuration a list": (lambda d: (d / "config.json").write_text("[]"), "config.json holds no JSON object"),
    "configuration in UTF-16": (lambda d: (d / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is no JSON"),
    "no model_type": (lambda d: config(d, model_type=None), "names no model_type"),
    "an unknown model_type": (lambda d: config(d, model_type="wibble"), "model type `wibble`"),
    "layers a word": (lambda d: config(d, num_hidden_layers="four"), "'num_hidden_layers'"),
    "an unknown dtype": (lambda d: config(d, dtype="floaty"), "its configuration cannot be read"),
    "code of its own": (
        lambda d: config(d, model_type="own", auto_map={"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Z"}),
        "wants to run code of its own",
    ),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "its tokenizer cannot be loaded: there is none"),
    "tokenizer cut off": (lambda d: halve(d / "tokenizer.json"), "its tokenizer cannot be loaded"),
    "tokenizer a list": (lambda d: (d / "tokenizer.json").write_text("[1]"), "its tokenizer cannot be loaded"),
    "tokenizer settings cut off": (lambda d: halve(d / "tokenizer_config.json"), "tokenizer_config.json is no JSON"),
    "generation settings a list": (
        lambda d: (d / "generation_config.json").write_text("[]"), "generation_config.json holds no JSON object",
    ),
    "an adapter beside it": (beside, "it is a PEFT adapter beside a model"),
    "an adapter alone": (lambda d: beside(d, alone=True), "is a PEFT adapter of the model 'me/b', not a model"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_damaged_and_foreign_files_are_one_line_before_anything_is_made(
    case: str, whole: Path, tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(whole, tmp_path / "m")
    FILES[case][0](tmp_path / "m")
    assert FILES[case][1] in refused(tmp_path / "m", capsys)


def first_shard(directory: Path) -> Path:
    return min(directory.glob("model-*.safetensors"))


def without_first(index: dict[str, Any]) -> dict[str, Any]:
    return {**index, "weight_map": {**index["weight_map"], "model.extra.weight": min(index["weight_map"].values())}}


SHARDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one missing": (lambda d: first_shard(d).unlink(), "files that model.safetensors.index.json names"),
    "one cut off": (lambda d: halve(first_shard(d)), GONE),
    "one empty": (lambda d: first_shard(d).write_bytes(b""), "is empty"),
    "one a git-LFS pointer": (lambda d: pointer(first_shard(d)), "is a git-LFS pointer"),
    "index cut off": (lambda d: halve(d / "model.safetensors.index.json"), "index.json is no JSON"),
    "index without a map": (
        lambda d: (d / "model.safetensors.index.json").write_text("{}"), "has no 'weight_map'",
    ),
    "index of another split": (
        lambda d: (d / "model.safetensors.index.json").write_text(
            json.dumps(without_first(json.loads((d / "model.safetensors.index.json").read_text())))
        ),
        "lacks model.extra.weight, which model.safetensors.index.json says it holds",
    ),
    "index missing": (lambda d: (d / "model.safetensors.index.json").unlink(), "holds no weights: it has model-00001"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARDS)
def test_a_damaged_or_missing_shard_is_named(case: str, sharded: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(sharded, tmp_path / "m")
    SHARDS[case][0](tmp_path / "m")
    assert SHARDS[case][1] in refused(tmp_path / "m", capsys)


DOWN = "model.layers.1.mlp.down_proj.weight"
UNFIT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a layer too many in the configuration": (
        lambda d: config(d, num_hidden_layers=3), "no weights for model.layers.2.input_layernorm.weight, ",
    ),
    "a layer too few in the configuration": (
        lambda d: config(d, num_hidden_layers=1), "the checkpoint has more layers than its config.json says (model.la",
    ),
    "one weight missing": (
        lambda d: weights(d, lambda w: {k: v for k, v in w.items() if k != DOWN}), f"no weights for {DOWN};",
    ),
    "no head, untied": (
        lambda d: weights(d, lambda w: {k: v for k, v in w.items() if "lm_head" not in k}),
        "no weights for lm_head.weight;",
    ),
    "a larger vocabulary in the configuration": (
        lambda d: config(d, vocab_size=4000), "is (2048, 32) in the checkpoint and (4000, 32) by its config.json",
    ),
    "another width in the configuration": (
        lambda d: config(d, intermediate_size=96), "(32, 64) in the checkpoint and (32, 96) by its config.json",
    ),
    "an adapter's names": (
        lambda d: weights(d, lambda w: {
            **{k.replace("down_proj", "down_proj.base_layer"): v for k, v in w.items()},
            "model.layers.1.mlp.down_proj.lora_A.default.weight": torch.zeros(2, 64),
        }),
        "holds an adapter's weights among its own",
    ),
    "biases that the configuration leaves out": (
        lambda d: weights(d, lambda w: {**w, DOWN.replace("weight", "bias"): torch.ones(32)}),
        f"would leave out {DOWN.replace('weight', 'bias')}",
    ),
    "norms that the class does not have": (
        lambda d: weights(d, lambda w: {**w, "model.layers.0.self_attn.q_norm.weight": torch.ones(8)}),
        "would leave out model.layers.0.self_attn.q_norm.weight",
    ),
    "NaN": (
        lambda d: weights(d, lambda w: {**w, DOWN: w[DOWN] * torch.nan}), f"NaN or infinity in {DOWN};",
    ),
    "infinity": (
        lambda d: weights(d, lambda w: {**w, "model.norm.weight": w["model.norm.weight"] / 0}),
        "NaN or infinity in model.norm.weight;",
    ),
    "a tokenizer with more tokens": (
        lambda d: extended(d, 5), "its tokenizer has 2053 tokens and its embedding 2048 rows, none for 'word0', 'word1",
    ),
}  # fmt: skip


def extended(directory: Path, count: int, *, special: bool = False) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    words = [f"word{n}" for n in range(count)]
    tokenizer.add_tokens(words, special_tokens=special)
    tokenizer.save_pretrained(directory)


@pytest.mark.parametrize("case", UNFIT)
def test_weights_that_do_not_fit_the_configuration_are_named(
    case: str, whole: Path, tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(whole, tmp_path / "m")
    UNFIT[case][0](tmp_path / "m")
    assert UNFIT[case][1] in refused(tmp_path / "m", capsys)


QUANTISED: dict[str, tuple[dict[str, Any], str]] = {
    "bitsandbytes 4": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, 4 bits"),
    "bitsandbytes 8": ({"quant_method": "bitsandbytes", "_load_in_8bit": True}, "bitsandbytes, 8 bits"),
    "bitsandbytes, old": ({"load_in_8bit": True}, "bitsandbytes, 8 bits"),
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq, 4 bits"),
    "awq": ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "awq, 4 bits"),
    "fp8": ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8"),
    "compressed-tensors": ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "compressed-tensors"),
    "mxfp4": ({"quant_method": "mxfp4"}, "mxfp4"),
    "hqq": ({"quant_method": "hqq", "quant_config": {}}, "hqq"),
    "torchao": ({"quant_method": "torchao", "quant_type": {}}, "torchao"),
    "one nobody knows": ({"quant_method": "exl3", "bits": 3}, "exl3, 3 bits"),
    "no method": ({"group_size": 64}, "'quantization_config' in its config.json"),
}


@pytest.mark.parametrize("case", QUANTISED)
def test_a_quantised_checkpoint_is_refused_by_what_it_is_quantised_with(
    case: str, whole: Path, tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(whole, tmp_path / "m")
    fields, said = QUANTISED[case]
    config(tmp_path / "m", quantization_config=fields)
    line = refused(tmp_path / "m", capsys)
    assert f"is quantised ({said}); editing needs plain weights: give the checkpoint that it was quantised from" in line


def test_quantisation_is_seen_in_other_places_too(whole: Path, tmp_path: Path) -> None:
    for fields in (
        {"compression_config": {"quant_method": "compressed-tensors"}},
        {"quantization": {"group_size": 64, "bits": 4}},
        {"text_config": {"quantization_config": {"quant_method": "fp8"}}},
    ):
        with pytest.raises(ModelError, match="is quantised"):
            check_fields({"model_type": "llama", **fields}, "m")
    check_fields({"model_type": "llama", "quantization_config": None}, "m")
    assert how({"quantization": {"quant_algo": "NVFP4"}}) == "NVFP4"
    for name, content in (("quantize_config.json", {"bits": 4}), ("quant_config.json", {"w_bit": 4})):
        shutil.copytree(whole, tmp_path / name)
        (tmp_path / name / name).write_text(json.dumps(content))
        with pytest.raises(ModelError, match=r"is quantised \(4 bits\)"):
            check_model(str(tmp_path / name))
    for kind in (torch.int8, torch.float8_e4m3fn):
        place = tmp_path / str(kind)
        shutil.copytree(whole, place)
        weights(place, lambda w, kind=kind: {**w, DOWN: w[DOWN].to(kind)})  # type: ignore[misc]
        with pytest.raises(ModelError, match=f"is quantised \\({DOWN} is (I8|F8_E4M3)\\)"):
            check_model(str(place))


_BERT = {"max_position_embeddings": 64}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
}  # fmt: skip
NOT_CAUSAL: dict[str, tuple[str, dict[str, Any], str]] = {
    "encoder": ("BertModel", _BERT, "attends to later tokens"),
    "encoder with a head of the next token": ("BertLMHeadModel", _BERT, "attends to later tokens"),
    "permuted": ("XLNetLMHeadModel", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, "attends to later"),
    "masked": ("BertForMaskedLM", _BERT, "was saved as BertForMaskedLM, which is no causal language model"),
    "classifier": (
        "LlamaForSequenceClassification", {}, "was saved as LlamaForSequenceClassification, which is no causal",
    ),
    "classifier with tied embeddings": (
        "GPT2ForSequenceClassification", {"n_embd": 32, "n_layer": 2, "n_head": 4},
        "was saved as GPT2ForSequenceClassification",
    ),
    "encoder-decoder": ("T5ForConditionalGeneration", _T5, "is an encoder-decoder model (t5)"),
    "encoder-decoder of a family with a decoder alone": (
        "BartForConditionalGeneration", _BART, "is an encoder-decoder model (bart)",
    ),
    "an encoder of an encoder-decoder": ("T5EncoderModel", _T5, "of which transformers has no causal language model"),
    "pictures": ("ViTModel", {}, "is a vit model, of which transformers has no causal language model"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # transformers' own about such classes
@pytest.mark.parametrize("case", NOT_CAUSAL)
def test_what_is_no_causal_language_model_is_refused_with_the_reason(case: str, tmp_path: Path, capsys: Any) -> None:
    of, fields, said = NOT_CAUSAL[case]
    assert said in refused(save(tmp_path / "m", of, **fields), capsys)


USABLE: dict[str, tuple[str, dict[str, Any], Callable[[Path], Any]]] = {
    "untied": ("LlamaForCausalLM", {}, lambda d: None),
    "tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}, lambda d: None),
    "tied, saved without a head": ("LlamaModel", {"tie_word_embeddings": True}, lambda d: None),
    "tied, the head alone saved": (
        "LlamaForCausalLM", {"tie_word_embeddings": True},
        lambda d: weights(d, lambda w: {k.replace("model.embed_tokens", "lm_head"): v for k, v in w.items()}),
    ),
    "more rows than tokens": ("LlamaForCausalLM", {"vocab_size": 2304}, lambda d: None),
    "in two types": (
        "LlamaForCausalLM", {},
        lambda d: weights(d, lambda w: {k: v.bfloat16() if "mlp" in k else v for k, v in w.items()}),
    ),
    "old buffers": (
        "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4},
        lambda d: weights(d, lambda w: {
            **w, **{f"transformer.h.0.attn.{name}": torch.ones(1, 1, 4, 4) for name in ("bias", "masked_bias")},
        }),
    ),
    "special tokens without a row": ("LlamaForCausalLM", {}, lambda d: extended(d, 1, special=True)),
    "no generation settings": ("LlamaForCausalLM", {}, lambda d: (d / "generation_config.json").unlink()),
    "a decoder of a family of encoders": ("BertLMHeadModel", {**_BERT, "is_decoder": True}, lambda d: None),
    "experts": ("MixtralForCausalLM", {"num_local_experts": 4, "num_key_value_heads": 2}, lambda d: None),
}  # fmt: skip


@pytest.mark.parametrize("case", USABLE)
def test_a_usable_checkpoint_loads_with_one_fingerprint_and_the_logits_of_transformers(
    case: str, tmp_path: Path
) -> None:
    of, fields, change = USABLE[case]
    change(save(tmp_path / "m", of, **fields))
    model, _ = load_model(str(tmp_path / "m"))
    assert fingerprint(model) == fingerprint(load_model(str(tmp_path / "m"))[0])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, plain(ids).logits)


def test_weights_that_are_only_not_used_are_one_notice(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole, tmp_path / "m")
    extra = {f"vision.{n}.weight": torch.ones(2) for n in range(5)}
    weights(tmp_path / "m", lambda w: {**w, **extra})
    with caplog.at_level(logging.WARNING, logger="seqedit"):
        load_model(str(tmp_path / "m"))
    (record,) = caplog.records
    assert "has no place for vision.0.weight, vision.1.weight, vision.2.weight and 2 more" in record.getMessage()


def test_layers_that_predict_further_tokens_are_a_notice_and_not_a_damage(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole, tmp_path / "m")
    config(tmp_path / "m", num_hidden_layers=1, num_nextn_predict_layers=1)
    load_model(str(tmp_path / "m"))
    assert "has no place for model.layers.1." in caplog.text


def test_every_door_refuses_the_same_checkpoint(whole: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(whole, tmp_path / "m")
    config(tmp_path / "m", num_hidden_layers=3)
    (tmp_path / "facts.jsonl").write_text('{"subject": "Lyon", "prompt": "{} is in", "target_new": "Peru"}\n')
    (tmp_path / "text.txt").write_text("Some plain text. " * 200)
    model, facts = ["--model", str(tmp_path / "m")], ["--requests", str(tmp_path / "facts.jsonl")]
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        ["init", *model, "--ledger", str(tmp_path / "l")],
        ["edit", *model, *facts, "--method", "ft", "--layers", "1", "--out", str(tmp_path / "a")],
        ["score", *model, "--records", str(tmp_path / "facts.jsonl")],
        ["stats", *model, "--text", str(tmp_path / "text.txt"), "--layers", "1", "--out", str(tmp_path / "s")],
        ["locate", *model, "--records", str(tmp_path / "facts.jsonl")],
    ):
        capsys.readouterr()
        assert run(arguments) == 2, arguments
        assert "no weights for model.layers.2.input_layernorm.weight" in capsys.readouterr().err, arguments
        assert sorted(tmp_path.rglob("*")) == before, arguments


def test_a_package_that_is_missing_is_the_environments_failure(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("this tokenizer needs sentencepiece\nwhich is not there")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", missing)
    with pytest.raises(EnvironmentFailure, match="needs a package that is not installed: this tokenizer needs sent"):
        load_model(str(whole))


def test_a_type_too_narrow_for_the_weights_is_told(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "m")
    weights(tmp_path / "m", lambda w: {**w, DOWN: w[DOWN] + 1e6})
    load_model(str(tmp_path / "m"))
    with pytest.raises(ModelError, match=r"NaN or infinity in .*float16 is too narrow"):
        load_model(str(tmp_path / "m"), dtype="float16")


def test_a_model_in_memory_must_fit_its_tokenizer_and_not_be_quantised(whole: Path) -> None:
    model, tokenizer = load_model(str(whole))
    longer = AutoTokenizer.from_pretrained(whole)
    longer.add_tokens(["quite-new"])
    with pytest.raises(ModelError, match="2049 tokens and its embedding 2048 rows, none for 'quite-new'"):
        EditedModel(model, longer)
    model.is_quantized = True
    with pytest.raises(ModelError, match="is quantised"):
        EditedModel(model, tokenizer)


def test_names_are_cut_after_three() -> None:
    assert named(["c", "b", "a"]) == "a, b, c"
    assert named("edcba") == "a, b, c and 2 more"
