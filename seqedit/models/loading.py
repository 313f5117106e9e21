"""Loading a causal LM and its tokenizer from the Hub or a local directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from seqedit.demo.location import DEMO_PREFIX
from seqedit.errors import EnvironmentFailure, InputError, ModelError, SeqeditError
from seqedit.models.checkpoint import VOCABULARIES, check_fields, is_adapter
from seqedit.models.gate import check_loaded, check_saved_as
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
        ModelError: the checkpoint is not what it says (`seqedit.models.checkpoint`, `seqedit.models.gate`), or has no
            tokenizer with offsets.
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
    config = read_config(source)
    with quiet_transformers():
        with told(source, "its tokenizer cannot be loaded"):
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
        with told(source, "it cannot be loaded as a causal language model"):
            # Without use_safetensors transformers falls back to pickled weights, be it with weights_only. Weights of
            # another shape are let through to `check_loaded`, because transformers' own error does not name them.
            model, report = AutoModelForCausalLM.from_pretrained(
                source, config=config, dtype=weight_type(dtype), use_safetensors=True, trust_remote_code=False,
                ignore_mismatched_sizes=True, output_loading_info=True, **spread,
            )  # fmt: skip
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"the tokenizer of {source} gives no character offsets; a fast tokenizer is needed")
    if not spread:
        model.to(device)
    model.eval()
    check_loaded(model, tokenizer, report, source)
    return model, tokenizer


def read_config(source: str) -> Any:
    """transformers' configuration of a model that could be edited, as far as it tells.

    Args:
        source: Hub id or local directory.

    Raises:
        ModelError: an adapter, quantised, an encoder-decoder, a class without a language model head, foreign code, or
            a model that this version of transformers does not know.
        EnvironmentFailure: it cannot be read from the Hub or its cache.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
    from transformers.utils.peft_utils import find_adapter_config_file

    with quiet_transformers(), told(source, "its configuration cannot be read"):
        if not Path(source).is_dir() and (adapter := find_adapter_config_file(source)) is not None:
            raise is_adapter(source, json.loads(Path(adapter).read_text("utf-8")), beside=_has_config(source))
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    check_fields(config.to_dict(), source)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{source} is a {config.model_type} model, of which transformers has no causal language model")
    check_saved_as(config.architectures, source)
    return config


def _has_config(source: str) -> bool:
    """Whether a repository of the Hub holds a model's configuration (beside an adapter's)."""
    from transformers.utils import cached_file

    found = cached_file(source, "config.json", _raise_exceptions_for_missing_entries=False)
    return found is not None


@contextmanager
def told(source: str, what: str) -> Iterator[None]:
    """Whatever the libraries that read a model raise, as one line about the model.

    Raises:
        ModelError: the model is at fault.
        EnvironmentFailure: the Hub, the disk, the memory or a package that is not installed.
    """
    try:
        yield
    except SeqeditError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else type(error).__name__
        local = Path(source).is_dir()
        if isinstance(error, ImportError):
            raise EnvironmentFailure(f"{source} needs a package that is not installed: {reason}") from error
        if isinstance(error, OSError) and not local:
            raise EnvironmentFailure(f"could not load '{source}' from the Hub or its cache: {reason}") from error
        if "remote_code" in str(error):
            reason = "it wants to run code of its own (auto_map in its config.json), which is never done"
        elif local and "tokenizer" in what and not any((Path(source) / name).is_file() for name in VOCABULARIES):
            reason = "there is none, no tokenizer.json; copy it from the model that the weights are of"
        elif not isinstance(error, (OSError, ValueError)):
            reason = f"{type(error).__name__}: {reason}"
        raise ModelError(f"{source}: {what}: {reason}") from error


def load_tokenizer(name: str) -> Any:
    """A model's tokenizer alone; errors as for `load_model`."""
    from transformers import AutoTokenizer

    check_model(name)
    source = resolve_model(name)
    with quiet_transformers(), told(source, "its tokenizer cannot be loaded"):
        return AutoTokenizer.from_pretrained(source, use_fast=True)


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
