"""That an adapter's files say nothing which its content does not: what is derived is derived again and compared.

The digest covers the deltas, requests, method, provenance, keys and target values. Stock PEFT reads more than that: a
scale, module names, a base model's name, zero padding, the identity beside a dense delta. All of it follows from the
content, so a file that says something else was altered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seqedit.adapters.delta import Delta, Dense, is_identity
from seqedit.adapters.files import CONFIG, SIDECAR, VALUES, WEIGHTS, lora_name
from seqedit.errors import InputError
from seqedit.support.digests import canonical_json

_NONE: tuple[Any, ...] = (None,)
_NOTHING: tuple[Any, ...] = (None, {})
_LIST: tuple[Any, ...] = (None, [])
_OFF: tuple[Any, ...] = (False, None)
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("auto_mapping", "revision", "layers_to_transform", "layers_pattern", "megatron_config"), _NONE),
    **dict.fromkeys(("eva_config", "corda_config", "lora_ga_config", "velora_config", "monteclora_config"), _NOTHING),
    **dict.fromkeys(("arrow_config", "kasa_config", "rank_pattern", "alpha_pattern", "loftq_config"), _NOTHING),
    **dict.fromkeys(("trainable_token_indices", "alora_invocation_tokens", "layer_replication", "use_bdlora"), _NONE),
    **dict.fromkeys(("exclude_modules", "target_parameters", "enable_lora"), _LIST),
    **dict.fromkeys(("use_qalora", "lora_bias", "ensure_weight_tying", "merge_weights"), _OFF),
    "megatron_core": ("megatron.core", None),
    "qalora_group_size": (16, None),
}
"""Further fields that PEFT's versions up to 0.21 write for LoRA: the values with which each has no effect."""


def check_config(config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a configuration by which PEFT would apply anything else than the content.

    Args:
        config: Content of ``adapter_config.json``.
        expected: `seqedit.adapters.files.lora_config` of the content.

    Raises:
        InputError: names the field that is missing, differs, is not at its neutral value, or is not known.
    """
    for name, value in expected.items():
        if name not in config:
            raise InputError(f"{CONFIG}: field '{name}' is missing; the content makes it {_shown(value)}")
        if _text(config[name]) != _text(value):
            raise InputError(
                f"{CONFIG}: field '{name}' is {_shown(config[name])}, the content makes it {_shown(value)}"
            )
    for name in sorted(set(config) - set(expected)):
        value = config[name]
        if name == "peft_version" and isinstance(value, str):
            continue  # says who wrote the file
        if name not in NEUTRAL:
            raise InputError(f"{CONFIG}: field '{name[:100]}' is not known, so nothing says what it would do")
        if _text(value) not in {_text(neutral) for neutral in NEUTRAL[name]}:
            raise InputError(f"{CONFIG}: field '{name}' is {_shown(value)}, which the content does not ask for")


def check_weights(tensors: Mapping[str, Tensor], deltas: Mapping[str, Delta]) -> None:
    """Refuse weights whose padding is not zero, or whose factor beside a dense delta is not the identity.

    Args:
        tensors: Content of the weights file, from which ``deltas`` were read.
        deltas: Module name -> weight delta.

    Raises:
        InputError: names the tensor.
    """
    rank = max(delta.rank for delta in deltas.values())
    for name, delta in deltas.items():
        a, b = tensors[lora_name(name, "lora_A")], tensors[lora_name(name, "lora_B")]
        if a.shape[0] != rank:
            raise InputError(f"{WEIGHTS}: the factors of '{name}' have rank {a.shape[0]}, the adapter's is {rank}")
        if _any_bit(a[delta.rank :]) or _any_bit(b[:, delta.rank :]):
            raise InputError(f"{WEIGHTS}: the padding of '{name}' is not zero")
        if isinstance(delta, Dense) and not is_identity(b[:, : delta.rank]):
            raise InputError(f"{WEIGHTS}: '{name}' is a dense delta, and lora_B is not the identity")


def check_values(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse keys and target values that are not stored as they are digested.

    Raises:
        InputError: names the tensor.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype:
            raise InputError(f"{VALUES}: tensor '{name[:100]}' is {tensor.dtype}, not {expected[name].dtype}")


def check_sidecar(sidecar: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a sidecar that is not what the content is written as.

    Raises:
        InputError: names the field.
    """
    for name in sorted({*sidecar, *expected}):
        if name not in expected:
            raise InputError(f"{SIDECAR}: field '{name[:100]}' is not known")
        if name not in sidecar or _text(sidecar[name]) != _text(expected[name]):
            raise InputError(f"{SIDECAR}: field '{name}' is not what the content makes it")


def _any_bit(tensor: Tensor) -> bool:
    """Whether any bit is set; a negative zero has one."""
    return tensor.numel() > 0 and bool(tensor.contiguous().view(torch.uint8).any())


def _text(value: Any) -> str:
    # As text, so that neither 1 and True nor 1 and 1.0 are the same.
    try:
        return canonical_json(value)
    except ValueError as error:
        raise InputError(f"a value is no plain JSON ({error})") from error


def _shown(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
