"""Loading a causal LM and its tokenizer from the Hub or a local directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from seqedit.demo.location import DEMO_PREFIX
from seqedit.errors import EnvironmentFailure, InputError, ModelError
from seqedit.models.gguf import converted, is_gguf
from seqedit.models.quiet import quiet_transformers
from seqedit.support.memory import is_out_of_memory

DEVICE_MAPS = ("auto", "balanced", "sequential")
"""Devices that stand for a way to spread a model over all of them."""


def resolve_model(name: str) -> str:
    """The directory of a shipped model (``demo-gpt2``, ``demo-llama``) or of a GGUF file, or the name itself."""
    if is_gguf(name) and Path(name).is_file():
        return str(converted(Path(name)))
    if name.startswith(DEMO_PREFIX) and not Path(name).exists():
        from seqedit.demo import STYLES, model_path

        style = name.removeprefix(DEMO_PREFIX)
        if style in STYLES and not model_path(style).is_dir():
            raise InputError(
                f"the model '{name}' is not shipped with this version; train it with "
                f"`python -m seqedit.demo_training.train --style {style} --out DIR` and give the directory"
            )
        if style in STYLES:
            return str(model_path(style))
    return name


def load_model(name: str, *, dtype: str = "auto", device: str | None = None) -> tuple[Any, Any]:
    """A model in evaluation mode and its fast tokenizer.

    Args:
        name: Hub id, local directory, a GGUF file (`seqedit.models.gguf`), or a shipped model's name.
        dtype: ``auto`` keeps the checkpoint's.
        device: Where to put it; None means the GPU where there is one. ``auto``, ``balanced`` and ``sequential`` spread
            the layers over all devices (accelerate's ``device_map``).

    Raises:
        InputError: a directory without weights or configuration; a device that this machine does not have.
        ModelError: no tokenizer with offsets.
        EnvironmentFailure: the Hub cannot be reached or does not know the id.
    """
    # Deferred: importing transformers takes seconds that `seqedit log` should not cost.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_device(device)
    spread = {"device_map": device} if device in DEVICE_MAPS else {}
    source = resolve_model(name)
    path = Path(source)
    if path.is_dir():
        _check_directory(path)
    elif is_gguf(source):
        raise InputError(f"no GGUF file at {source}")
    elif path.exists() or path.is_absolute() or source.startswith(".") or source.count("/") > 1:
        raise InputError(f"no model directory at {source}")
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
            # Without it transformers falls back to pickled weights, be it with weights_only.
            model = AutoModelForCausalLM.from_pretrained(source, dtype=_dtype(dtype), use_safetensors=True, **spread)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        if path.is_dir():
            raise InputError(f"{source} cannot be loaded as a causal language model: {first}") from error
        raise EnvironmentFailure(f"could not load '{source}' from the Hub or its cache: {first}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"the tokenizer of {source} gives no character offsets; a fast tokenizer is needed")
    if not spread:
        model.to(device)
    model.eval()
    return model, tokenizer


def _check_device(device: str) -> None:
    if device in DEVICE_MAPS:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise EnvironmentFailure(f"device '{device}' has no memory left") from error
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"device '{device}' cannot be used here ({first}); give cpu, cuda, cuda:1, mps, ..., or one of "
            f"{', '.join(DEVICE_MAPS)} to spread the model over all devices"
        ) from error


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise InputError(f"{path} is no model directory: config.json is missing")
    names = [p.name for p in path.iterdir()]
    if not any(n.endswith((".safetensors", ".safetensors.index.json")) for n in names):
        pickled = [n for n in names if n.endswith((".bin", ".pt", ".pth"))]
        extra = (
            f" (it has {pickled[0]}; pickled weights are never loaded, convert them to safetensors)" if pickled else ""
        )
        raise InputError(f"{path} holds no weights: no *.safetensors file{extra}")


def _dtype(name: str) -> Any:
    if name == "auto":
        return "auto"
    value = getattr(torch, name, None)
    if not isinstance(value, torch.dtype):
        raise InputError(f"unknown dtype '{name}'; use auto, float32, bfloat16 or float16")
    return value
