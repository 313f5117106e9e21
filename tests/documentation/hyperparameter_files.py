"""The table of public hyperparameter files in docs/reference/hyperparameter-files.md, made by reading their kinds.

``python -m tests.documentation.hyperparameter_files --write`` writes it; a test compares. Each row is an imitation: the
fields of a project's files of one kind, with values as they have them. How many files a kind has was counted in the
projects' repositories in November 2026.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqedit.editing.hyperparameters import parse_hparams
from seqedit.errors import SeqeditError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "hyperparameter-files.md"
BEGIN, END = "<!-- files: generated -->", "<!-- /files -->"

_MODULES = {
    "rewrite_module_tmp": "model.layers.{}.mlp.down_proj", "layer_module_tmp": "model.layers.{}",
    "mlp_module_tmp": "model.layers.{}.mlp", "attn_module_tmp": "model.layers.{}.self_attn",
    "ln_f_module": "model.norm", "lm_head_module": "lm_head",
}  # fmt: skip
_SEARCH = {
    "fact_token": "subject_last", "v_num_grad_steps": 25, "v_lr": 0.1, "v_loss_layer": 31, "v_weight_decay": 0.5,
    "kl_factor": 0.0625, "clamp_norm_factor": 0.75,
}  # fmt: skip
_MOMENTS = {"mom2_dataset": "wikipedia", "mom2_n_samples": 100000, "mom2_dtype": "float32"}
_WEIGHT = {"mom2_adjustment": True, "mom2_update_weight": 15000, "layer_selection": "all"}
_EASY = {"model_name": "./m", "device": 0, "model_parallel": False, "batch_size": 1, "stats_dir": "./stats"}
_MANY = {"layers": [4, 5, 6, 7, 8], **_WEIGHT, **_SEARCH, **_MOMENTS, **_MODULES}
_ROME = {"layers": [5], "context_template_length_params": [[5, 10], [10, 10]], **_SEARCH, **_MOMENTS, **_MODULES}
COMMON = {*_MODULES, *_MOMENTS, *_EASY, "v_loss_layer", "layer_selection", "context_template_length_params"}
"""Without effect wherever they stand: the page says so once."""
_FT = {
    "layers": [21],
    "num_steps": 25,
    "lr": 5e-4,
    "weight_decay": 0,
    "kl_factor": 0,
    "norm_constraint": 5e-5,
    **_MODULES,
}
_LORA = {"lora_type": "lora", "layers": [], "num_steps": 70, "lr": 5e-3, "weight_decay": 0, "kl_factor": 0, "rank": 8,
         "lora_alpha": 32, "lora_dropout": 0.0, "norm_constraint": False, "target_modules": ["down_proj"]}  # fmt: skip

_ULTRA = {"alg_name": "ULTRAEDIT", "dropout": 0.0, "no_grad_layers": None, "lr": 1e-6, "token": "mask", "half": True,
          "batch_size": 10, "batch_size_once": 10, "editor_batch_size": 1024, "silent": False}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        projects: Where they are.
        method: What they are for.
        files: How many there are.
        content: One of them, in the fields that matter.
        read: Whether they are read.
    """

    projects: str
    method: str
    files: int
    content: dict[str, Any]
    read: bool = True


KINDS: tuple[Kind, ...] = (
    Kind("ROME, MEMIT, unified-model-editing, AlphaEdit, BLUE", "rome", 26, {**_ROME, "mom2_adjustment": True}),
    Kind("EasyEdit (ROME, R-ROME)", "rome", 21, {**_ROME, **_EASY, "alg_name": "ROME", "mom2_adjustment": False}),
    Kind("MEMIT, AlphaEdit, PMET", "memit", 7, _MANY),
    Kind("unified-model-editing", "memit", 2, {**_MANY, "calculate_objective_value": False, "emmet_lambda": 0.1}),
    Kind("EasyEdit", "memit", 11, {**_MANY, **_EASY, "alg_name": "MEMIT"}),
    Kind("BLUE", "memit", 3, {**_MANY, "layers": [4, 8], "blue": True}),
    Kind("BLUE (MEMIT beside it)", "memit", 3, {**_MANY, "edit_layer": -1}),
    Kind("unified-model-editing, EasyEdit", "emmet", 7, {**_MANY, "emmet_lambda": 0.1}),
    Kind("PMET, EasyEdit, BLUE", "pmet", 10, {
        **_MANY, "nll_loss_factor": 1, "rewrite_module_tmp": "model.layers.{}.self_attn.o_proj",
        "rewrite_module_tmps": ["model.layers.{}.mlp.down_proj"]}),
    Kind("BLUE", "pmet", 5, {**_MANY, "layers": [4, 8], "blue": True}),
    Kind("AlphaEdit", "alphaedit", 3, {**_MANY, "nullspace_threshold": 0.02, "L2": 10}),
    Kind("EasyEdit", "alphaedit", 6, {**_MANY, **_EASY, "nullspace_threshold": 0.02, "L2": 10, "P_loc": "./p.pt"}),
    Kind("BLUE", "alphaedit", 6, {**_MANY, "layers": [4, 8], "nullspace_threshold": 0.02, "L2": 10, "blue": True}),
    Kind("ROME, MEMIT, unified-model-editing, AlphaEdit, BLUE", "ft", 32, _FT),
    Kind("the same (gpt2-xl_attn)", "ft", 5, {**_FT, "rewrite_module_tmp": "transformer.h.{}.attn.c_attn"}, read=False),
    Kind("the same (gpt-j_wd)", "ft", 4, {**_FT, "wd_power_law": [-0.87, 0.16]}, read=False),
    Kind("EasyEdit", "ft", 15, {**_FT, **_EASY, "objective_optimization": "prompt_last"}, read=False),
    Kind("EasyEdit (AdaLoRA)", "lora", 10, {**_LORA, **_EASY, "lora_type": "adalora"}, read=False),
    Kind("EasyEdit", "lora", 2, {**_LORA, **_EASY, "lora_dropout": 0.1}, read=False),
    Kind("ROME, MEMIT, unified-model-editing, AlphaEdit, BLUE", "mend", 25, {"lr_scale": 1.0, "n_toks": 1}),
    Kind("EasyEdit", "mend", 29, {**_EASY, "inner_params": ["model.layers.29.mlp.gate_proj.weight"]}, read=False),
    Kind("EasyEdit", "ultraedit", 3, {**_ULTRA, "inner_params": ["transformer.h.18.mlp.fc_out"]}),
    Kind("EasyEdit", "ultraedit", 3, {**_ULTRA, "inner_params": ["model.layers.11.mlp.gate_proj"]}, read=False),
    Kind("EasyEdit (multimodal)", "mend", 8, {"name": "Salesforce/blip2-opt-2.7b", "lr_scale": 1.0}, read=False),
)  # fmt: skip


def outcome(kind: Kind) -> tuple[bool, str]:
    """Whether a file of the kind is read; and what has no effect, or why it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file.json"
        file.write_text(json.dumps(kind.content))
        try:
            found = parse_hparams(file, kind.method)
        except SeqeditError as error:
            return False, str(error).partition(": ")[2]
    return True, ", ".join(f"`{name}`" for name in found.without_effect if name not in COMMON) or "-"


def table() -> str:
    """The table, in Markdown."""
    lines = ["| method | project | files | read | without effect, or why not |", "|---|---|---:|---|---|"]
    for kind in KINDS:
        read, told = outcome(kind)
        lines.append(f"| {kind.method} | {kind.projects} | {kind.files} | {'yes' if read else 'refused'} | {told} |")
    read_files = sum(kind.files for kind in KINDS if kind.read)
    return "\n".join([*lines, "", f"{read_files} of {sum(kind.files for kind in KINDS)} files are read."])


def page() -> str:
    """The page with the table as it would be made now."""
    text = PAGE.read_text("utf-8")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{table()}\n{text[text.index(END) :]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        PAGE.write_text(page(), "utf-8")
    else:
        print(table())
