"""Loading a causal LM and its tokenizer from the Hub or a local directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from seqedit.demo.location import DEMO_PREFIX
from seqedit.errors import EnvironmentFailure, InputError, ModelError
from seqedit.models.names import DEVICE_MAPS as DEVICE_MAPS
from seqedit.models.names import check_model, unknown_dtype
from seqedit.models.names import resolve_model as resolve_model
from seqedit.models.quiet import quiet_transformers
from seqedit.support.memory import is_out_of_memory


def loadable_name(name: str) -> str:
    """A name that stock transformers loads the model by, from every folder of this machine.

    A shipped model, a converted GGUF file and a relative path become the absolute path of the directory; a Hub id, and
    a path that is no longer there, stay what they are.
    """
    path = Path(name)
    found = Path(resolve_model(name)) if name.startswith(DEMO_PREFIX) or path.exists() else path
    return str(found.absolute()) if found.is_dir() else name


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
    check_device(device)
    spread = {"device_map": device} if device in DEVICE_MAPS else {}
    check_model(name)
    source = resolve_model(name)
    path = Path(source)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
            # Without it transformers falls back to pickled weights, be it with weights_only.
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=weight_type(dtype), use_safetensors=True, **spread
            )
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


def load_tokenizer(name: str) -> Any:
    """A model's tokenizer alone; errors as for `load_model`."""
    from transformers import AutoTokenizer

    check_model(name)
    source = resolve_model(name)
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(source, use_fast=True)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        if Path(source).is_dir():
            raise InputError(f"{source} has no tokenizer that can be loaded: {first}") from error
        raise EnvironmentFailure(f"could not load the tokenizer of '{source}': {first}") from error


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: no such device here.
        EnvironmentFailure: it has no memory left.
    """
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


def weight_type(name: str) -> Any:
    """The type of a name, as transformers takes it; ``auto`` stays what it is.

    Raises:
        InputError: no such type.
    """
    if name == "auto":
        return "auto"
    value = getattr(torch, name, None)
    if not isinstance(value, torch.dtype):
        raise unknown_dtype(name)
    return value
