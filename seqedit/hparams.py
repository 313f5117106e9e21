"""Hyperparameter files of MEMIT, unified-model-editing and EasyEdit, mapped onto our own settings."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from seqedit.errors import InputError
from seqedit.methods import get_method

# Their name -> ours.
_RENAMED = {
    "v_lr": "learning_rate",
    "v_num_grad_steps": "steps",
    "v_weight_decay": "weight_decay",
    "mom2_update_weight": "second_moment_weight",
    "emmet_lambda": "a",
    "L2": "l2",
    "lr": "learning_rate",
    "num_steps": "steps",
    "lora_alpha": "alpha",
    "update_norm_lambda": "frobenius_weight",
}

# Things our model anatomy, tokenizer rules or command line decide; a file may say them, and they change nothing.
_DESCRIPTIVE = {
    "alg_name", "attn_module_tmp", "batch_size", "calculate_objective_value", "device", "dynamic_multiplier",
    "layer_module_tmp", "layer_selection", "lm_head_module", "ln_f_module", "max_length", "mlp_module_tmp",
    "model_name", "model_parallel", "mom2_dataset", "mom2_dtype", "mom2_n_samples", "rewrite_module_tmp",
    "rewrite_module_tmps", "stats_dir", "v_loss_layer",
}  # fmt: skip

# Their fine-tuning files say false for none.
_OFF: dict[str, Any] = {"norm_constraint": None, "weight_decay": 0.0}

# Settings of which only one value is what these methods mean here; any other would silently change the edit.
_ONLY: dict[str, tuple[Any, ...]] = {
    "fact_token": ("subject_last",),
    "mom2_adjustment": (True,),
    "context_template_length_params": (),
    "objective_optimization": ("target_new",),
    "nll_loss_factor": (1,),
    "bias_update": (False,),
    "dynamic": (False,),
    "prob_cutoff": (0,),
    "norm_control": (0,),
    "wd_power_law": (None, []),
    "lora_type": ("lora",),
    "lora_dropout": (0, 0.0),
}


def read_hparams(path: str | Path, method: str) -> dict[str, Any]:
    """Settings of a method from a JSON or YAML file, with our names.

    Args:
        path: The file: our own field names, or those of the public implementations.
        method: Which method they are for.

    Raises:
        InputError: the file cannot be read, or a field is unknown or asks for something else; names it.
    """
    data = read_mapping(path)
    known = {f.name for f in fields(get_method(method).config)}
    settings: dict[str, Any] = {}
    for name, value in data.items():
        ours = _RENAMED.get(name, name)
        if ours in known:
            if ours in settings:
                raise InputError(f"{path}: '{name}' gives the setting '{ours}' a second time")
            settings[ours] = _OFF[ours] if value is False and ours in _OFF else value
        elif name == "mom2_adjustment" and value is False and method == "rome":
            settings["shrinkage"] = 1.0  # the identity for C0; its scale cancels at a = 0
        elif name == "kl_factor" and value == 0:
            continue  # fine-tuning has no such term
        elif name in _ONLY:
            if _ONLY[name] and value not in _ONLY[name]:
                raise InputError(f"{path}: field '{name}' must be {_ONLY[name][0]!r} here, got {value!r}")
        elif name not in _DESCRIPTIVE:
            close = difflib.get_close_matches(name, [*known, *_RENAMED], n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InputError(f"{path}: unknown field '{name}' for method '{method}'{hint}")
    return settings


def read_mapping(path: str | Path) -> Mapping[str, Any]:
    """A JSON or YAML file whose top level is a mapping.

    Raises:
        InputError: missing, malformed, or not a mapping.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        data = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: malformed ({' '.join(str(error).split())})") from error
    if not isinstance(data, Mapping):
        raise InputError(f"{path}: expected a mapping of settings, got {type(data).__name__}")
    return data
