"""A folder with one good file of every kind that verbs take, and a ledger of four entries."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from tests.conftest import REFERENCE

SENTENCE = "The sport of golf and the sport of rowing are known to all of them.\n"
MEMIT = "--method memit --layers 2 --spread single --set steps=1"
KEPT = "--context-templates templates.json --second-moments moments.safetensors"
FT = "--method ft --layers 2 --set steps=1"
TASK = {
    "task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}} It is",
    "doc_to_target": "label", "doc_to_choice": ["right", "wrong"], "num_fewshot": 0,
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [{"name": "none", "filter": [{"function": "take_first"}]}],
    "fewshot_config": {"sampler": "first_n"}, "metadata": {"version": 1.0},
}  # fmt: skip
SAID = {
    "task": "said", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test", "output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{label}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 2, "do_sample": False, "temperature": 0.0},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True}],
    "filter_list": [{"name": "first", "filter": [{"function": "regex", "regex_pattern": "(.*)"},
                                                 {"function": "take_first"}]}],
}  # fmt: skip
JOB = {
    "model": "model", "facts": "facts.json", "batch_size": 2, "steps": 1, "seed": 0, "title": "a job",
    "context_templates": [["{}"]], "evals": {"generation": False, "drift": False, "perplexity_text": "text.txt"},
}  # fmt: skip
ONE = {"layers": [2], "steps": 1}


def make_model(folder: Path) -> None:
    """A Llama of four small layers, with a generation configuration."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(REFERENCE / "model")
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "do_sample": False, "max_length": 64,
                    "num_beams": 1, "transformers_version": "5.0.0"})
    )  # fmt: skip


def _write(name: str, value: Any) -> None:
    Path(name).write_text(value if isinstance(value, str) else json.dumps(value))


def _lines(name: str, rows: list[Any]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _facts() -> None:
    import datasets

    records = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
    _write("facts.json", records[:2])
    _write("more.json", records[2:4])
    _write("all.json", records)
    names = ("Venxa", "Bado", "Bribri", "Olm", "Sidi", "Marla", "Ruo", "Ina")
    plain = [{"subject": name, "prompt": "{} plays the sport of", "target_new": "golf", "target_true": "rowing",
              "relation": "sport", "date": "2032-01-31", "source": "a page", "paraphrase_prompts": [f"{name} plays"],
              "neighborhood_prompts": ["Lyon plays"]} for name in names]  # fmt: skip
    _lines("plain.jsonl", plain[:2])
    _lines("eight.jsonl", [{k: v for k, v in row.items() if k != "target_true"} for row in plain])
    _write("zsre.json", [
        {"subject": name, "src": f"What does {name} play?", "pred": "chess", "rephrase": f"What is {name}'s sport?",
         "alt": "golf", "answers": ["rowing"], "loc": "nq question: what is the sport", "loc_ans": "chess"}
        for name in names[:2]
    ])  # fmt: skip
    _write("easyedit.json", [
        {"prompt": f"{name} plays the sport of", "subject": name, "target_new": "golf", "ground_truth": "rowing",
         "rephrase_prompt": f"{name} plays", "locality_prompt": "Lyon plays", "locality_ground_truth": "chess"}
        for name in names[:2]
    ])  # fmt: skip
    rows = datasets.Dataset.from_list(plain[:2])
    rows.to_parquet("facts.parquet")
    rows.save_to_disk("saved")
    datasets.Dataset.from_list([{"text": SENTENCE} for _ in range(60)]).to_parquet("text.parquet")


def _cases() -> None:
    from seqedit import demo

    world = demo.world()
    _write("mquake.json", demo.mquake_cases(world)[:2])
    _write("ripple.json", demo.ripple_cases(world)[:2])


def _texts_and_settings() -> None:
    _write("text.txt", SENTENCE * 60)
    _lines("text.jsonl", [{"text": SENTENCE}] * 60)
    _write("probes.txt", "The sport of golf\nRowing is\n")
    _write("shown.txt", "Q: What is golf?\nA: a sport\n\n")
    _write("names.txt", "Venxa\nBado\nLyon\n")
    _write("templates.json", [["{}"], ["It is. {}", "So. {}"]])
    _lines("rows.jsonl", [{"question": f"{n} is a sport.", "label": n % 2} for n in range(4)])
    _lines("examples.jsonl", [{"question": f"{n} was a game.", "label": n % 2} for n in range(4)])
    _lines("cola.jsonl", [{"sentence": f"{n} is a sport.", "label": n % 2, "idx": n} for n in range(4)])
    _lines("cola-examples.jsonl", [{"sentence": f"{n} was.", "label": n % 2, "idx": n} for n in range(4)])
    Path("folder").mkdir()
    _lines("folder/cola.jsonl", [{"sentence": f"{n} is a sport.", "label": n % 2, "idx": n} for n in range(4)])
    _lines("folder/rte.jsonl",
           [{"sentence1": "a", "sentence2": f"{n}", "label": n % 2, "idx": n} for n in range(4)])  # fmt: skip
    _write("own.yaml", TASK)
    _write("said.yaml", SAID)
    _write("includes.yaml", {"include": "own.yaml", "task": "includes"})
    _write("run.yaml", {**JOB, "out": "job", "method": "ft", "settings": ONE, "tasks": {"cola": "cola.jsonl"},
                        "gates": ["ES: min 0"], "on_gate": {"action": "revert", "then": "continue"}})  # fmt: skip
    _write("closed.yaml", {**JOB, "out": "closed", "method": "memit", "settings": {**ONE, "spread": "single"},
                           "second_moments": {"file": "moments.safetensors"}})  # fmt: skip
    methods = {"ft": {"method": "ft", "settings": ONE}, "lora": {"method": "lora", "settings": ONE}}
    _write("compare.yaml", {**JOB, "out": "compared", "methods": methods})
    apart = {"evals": {"generation": False, "drift": False}, "out": "apart", "independent": True}
    _write("independent.yaml", {**JOB, **apart, "methods": methods})
    _write("hparams.json", {"layers": [2], "steps": 1, "spread": "single"})
    _write("preset.yaml", {"model": {"hidden_size": 16, "num_layers": 4, "ffn": 32, "vocabulary": 2048},
                            "common": {**ONE, "spread": "single"}, "methods": {"memit": {"steps": 1}}})  # fmt: skip
    _write("easyedit.yaml", {
        "alg_name": "MEMIT", "model_name": "model", "device": 0, "layers": [2], "clamp_norm_factor": 4,
        "layer_selection": "all", "fact_token": "subject_last", "v_num_grad_steps": 1, "v_lr": 0.5, "v_loss_layer": 3,
        "v_weight_decay": 0.001, "kl_factor": 0.0625, "mom2_adjustment": True, "mom2_update_weight": 15000,
        "rewrite_module_tmp": "model.layers.{}.mlp.down_proj", "layer_module_tmp": "model.layers.{}",
        "mlp_module_tmp": "model.layers.{}.mlp", "attn_module_tmp": "model.layers.{}.self_attn", "ln_f_module":
        "model.norm", "lm_head_module": "lm_head", "mom2_dataset": "wikipedia", "mom2_n_samples": 100, "mom2_dtype":
        "float32", "model_parallel": False,
    })  # fmt: skip


LINES = (
    "stats --model model --layers 2 --text text.txt --max-tokens 400 --out moments.safetensors",
    "init --model model",
    f"edit plain.jsonl --ledger ledger {MEMIT} {KEPT} -m first",
    f"edit facts.json --ledger ledger {FT} -m second",
    f"edit more.json --ledger ledger {FT} -m third",
    f"edit --model model --requests facts.json {FT} --out made",
    f"edit --model model --requests facts.json {MEMIT} {KEPT} --out solved",
    "checkout -b spare",
    f"edit easyedit.json --ledger ledger {FT} -m fourth",
    "checkout -b solved",
    f"edit zsre.json --ledger ledger {MEMIT} {KEPT} -m fifth",
    "checkout main",
    "export --format bundle --out history.zip",
    "sign --new-key key.pem",
    "sign --new-key other.pem",
    "sign --key key.pem",
    "export --format bundle --out signed.zip",
    "train-mend --model model --records eight.jsonl --layers 2 --steps 1 --set rank=2 --set validation_share=0.25 "
    "--out net",
    "tune --model model --records eight.jsonl --text text.txt --out tuned --layers 1 --steps 1 --max-tokens 1000 "
    "--method emmet",
    "run run.yaml",
    "compare compare.yaml",
    "compare independent.yaml",
)
"""What makes the ledger and the files that verbs write."""


def make(folder: Path) -> None:
    """Fill an empty folder, the current one."""
    make_model(folder / "model")
    _facts()
    _cases()
    _texts_and_settings()
    for line in LINES:
        assert run(shlex.split(line)) == 0, line
    from ledger import Ledger
    from ledger.upkeep.signing import load_key, public_key
    from seqedit.scoring.summary import build_summary

    _write("team", public_key(load_key(folder / "key.pem")) + "\n")
    with Ledger.open("ledger") as ledger:
        _write("summary.json", build_summary(ledger, "HEAD", title="a run"))


def made(folder: Path) -> None:
    """The same, wherever one is; the cache is beside the folder."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEQEDIT_CACHE", str(folder.with_name("cache")))
        make(folder)
