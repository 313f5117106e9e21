"""Which field of the public hyperparameter files which method's public code reads, and what it is called here.

Looked up in the code of ROME, MEMIT, PMET, AlphaEdit, unified-model-editing (ROME, MEMIT, EMMET, FT) and EasyEdit (all
of these, R-ROME, LoRA and UltraEdit), not in their files, which are copied from method to method with all they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TARGETS = {
    "layers": "layers",
    "v_lr": "learning_rate",
    "v_num_grad_steps": "steps",
    "v_weight_decay": "weight_decay",
    "clamp_norm_factor": "clamp_norm_factor",
    "kl_factor": "kl_factor",
}
_WEIGHT = {"mom2_update_weight": "second_moment_weight"}
_NULL_SPACE = {"nullspace_threshold": "nullspace_threshold", "L2": "l2"}
_NORM = {"update_norm_lambda": "frobenius_weight"}
_TRAINED = {
    "layers": "layers",
    "lr": "learning_rate",
    "num_steps": "steps",
    "weight_decay": "weight_decay",
    "batch_size": "batch_size",
}

READ: Mapping[str, Mapping[str, str]] = {
    "rome": {**_TARGETS, "original_implementation": "published_keys"},
    "memit": {**_TARGETS, **_WEIGHT, **_NORM},
    "emmet": {**_TARGETS, **_WEIGHT, **_NORM, "emmet_lambda": "a"},
    "pmet": {**_TARGETS, **_WEIGHT},
    "alphaedit": {**_TARGETS, **_NULL_SPACE},
    "evoedit": {**_TARGETS, **_NULL_SPACE},
    "ft": {**_TRAINED, "norm_constraint": "norm_constraint"},
    "lora": {**_TRAINED, "rank": "rank", "lora_alpha": "alpha"},
    "mend": {"lr_scale": "scale"},
    "ultraedit": {"layers": "layers", "lr": "learning_rate", "token": "tokens"},
}
"""Method -> their name of a field that its code reads -> ours."""

CHOICES: Mapping[str, tuple[str, str]] = {"blue": ("spread", "boundary")}
"""Their switch -> our setting and the value that it has where the switch is on; off leaves the setting alone."""

SPELT: Mapping[str, Mapping[str, str]] = {"tokens": {"ans": "answer", "mask": "all"}}
"""Our setting -> what their files call its values -> ours."""

NAMED_LAYERS = ("ultraedit",)
"""Methods whose files say by the names of modules which layers are edited."""

IDENTITY = ("rome",)
"""Methods that take the identity for C0 where ``mom2_adjustment`` is false."""

OFF: Mapping[str, Any] = {"norm_constraint": None, "weight_decay": 0.0}
"""Our settings for which their fine-tuning files say false to mean none."""


@dataclass(frozen=True)
class Only:
    """A field of which only some values mean what is done here; any other would silently be another edit.

    Attributes:
        values: These values.
        methods: Methods it is checked for.
        why: What another value would be, and why it is not done; empty where the name says it.
    """

    values: tuple[Any, ...]
    methods: tuple[str, ...]
    why: str = ""


_CLOSED = ("alphaedit", "emmet", "evoedit", "memit", "pmet", "rome")

ONLY: Mapping[str, Only] = {
    "fact_token": Only(("subject_last",), _CLOSED),
    "mom2_adjustment": Only((True,), _CLOSED),
    "nll_loss_factor": Only((1,), ("pmet",)),
    "bias_update": Only((False,), ("rome",)),
    "dynamic": Only((False,), ("rome",)),
    "enable_prompt_keys": Only((False,), ("rome",)),
    "enable_random_prefix_keys": Only((True,), ("rome",)),
    "prob_cutoff": Only((0,), _CLOSED),
    "norm_control": Only((0,), _CLOSED),
    "objective_optimization": Only(
        ("target_new",),
        ("ft",),
        "the loss here is that of the whole answer after its prompt, not of the last token alone",
    ),
    "wd_power_law": Only((None, []), ("ft",), "weight decay here is one number, not a power law of the batch's size"),
    "kl_factor": Only((0,), ("ft", "lora"), "these methods have no divergence in their loss here"),
    "lora_type": Only(("lora",), ("lora",), "AdaLoRA changes ranks as it trains; the adapter here has one rank"),
    "lora_dropout": Only((0,), ("lora",), "an edit here is the same each time, so nothing is dropped at random"),
    "use_chat_template": Only((False,), ("lora",), "use --chat-template"),
    "edit_layer": Only((-1,), _CLOSED, "all layers of 'layers' are written here"),
    "name": Only((), ("mend",), "this is a file for a multimodal model; only text is edited here"),
}

NO_EFFECT: Mapping[str, str] = {
    # What is said elsewhere here.
    "context_template_length_params": "give templates of your own with --context-templates",
    "device": "use --device",
    "fp16": "use --dtype",
    "model_name": "use --model",
    "model_parallel": "use --device",
    "mom2_dataset": "use --text",
    "mom2_n_samples": "it counts documents; the sample here is counted in tokens",
    "v_loss_layer": "the loss is that of the last layer",
    "archive": "give a directory of train-mend with --set hypernetwork=DIR",
    "n_toks": "give a directory of train-mend with --set hypernetwork=DIR",
    "P_loc": "the projection is computed from the second moments",
    "stats_dir": "use --second-moments for a file of your own",
    # What is found in the model.
    "attn_module_tmp": "",
    "layer_module_tmp": "",
    "lm_head_module": "",
    "ln_f_module": "",
    "mlp_module_tmp": "",
    "rewrite_module_tmp": "",
    # What changes no edit, and what no code reads.
    "alg": "",
    "alg_name": "",
    "calculate_objective_value": "",
    "counterfact": "",
    "dynamic_multiplier": "",
    "layer_selection": "",
    "max_length": "",
    "mini": "",
    "class_name": "",
    "dropout": "",
    "no_grad_layers": "",
    "silent": "",
    "results_dir": "",
    "half": "use --dtype",
    "batch_size_once": "",
    "editor_batch_size": "",
    "model_class": "",
    "mom2_dtype": "",
    "tokenizer_class": "",
    "tokenizer_name": "",
    "zsre": "",
}
"""Fields that change nothing for any method -> what to use instead, if there is something."""

KNOWN: frozenset[str] = frozenset(
    {name for reads in READ.values() for name in reads}
    | {*ONLY, *NO_EFFECT, *CHOICES, "rewrite_module_tmps", "target_modules"}
)
"""Every field of the public files that anything is known of."""


def edited_modules(method: str) -> tuple[str, ...]:
    """The fields that say which modules a method's code writes to."""
    if method == "pmet":
        return (
            "rewrite_module_tmps",
        )  # its code leaves rewrite_module_tmp unread, and its files have attention's there
    if method == "lora":
        return ("target_modules",)
    if method in ("mend", "ultraedit"):
        return ("inner_params",)
    return ("rewrite_module_tmp", "rewrite_module_tmps")
