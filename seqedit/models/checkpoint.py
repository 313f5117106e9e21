"""Whether a model directory is what it says, told from its files before transformers reads them.

transformers is forgiving: it loads an adapter that lies beside a model together with it, asks on the terminal whether
to run foreign code, tells of damage in whatever words the reader of the damaged format has. Here only configuration
and the headers of the weight files are read, so that it costs milliseconds and no import.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError, ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
VOCABULARIES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model",
    "tekken.json",
)  # fmt: skip
"""Files that hold a tokenizer's vocabulary."""
_OBJECTS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    INDEX,
)  # fmt: skip
"""Files that hold one JSON object, where they are there; tokenizer.json may have 30 MB, its reader tells its damage."""
_QUANTISERS = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""What AutoGPTQ, AutoAWQ and ModelOpt write beside a model whose config.json says nothing of it."""
_POINTER = b"version https://git-lfs"
_HEADER_BYTES = 100_000_000
"""The longest header that safetensors itself reads."""
_PLAIN = ("F64", "F32", "F16", "BF16", "BOOL")
_PACKED = ("weight", "qweight", "weight_packed", "packed", "_blocks")
"""What the names of weights end in, where they may be packed integers."""


def check_files(path: Path) -> None:
    """Refuse a model directory whose files cannot be, or must not be, loaded as a causal language model.

    Raises:
        InputError: no model's configuration or no weights that are safe to read.
        ModelError: an adapter, quantised, an encoder, damaged, or incomplete; the message says what to do.
        EnvironmentFailure: a file cannot be read.
    """
    if (path / ADAPTER).is_file():
        raise is_adapter(str(path), _object(path / ADAPTER), beside=(path / "config.json").is_file())
    if not (path / "config.json").is_file():
        raise InputError(f"{path} is no model directory: config.json is missing")
    objects = {name: _object(path / name) for name in _OBJECTS if (path / name).is_file()}
    for name in VOCABULARIES:
        if (path / name).is_file() and _begins(path / name).startswith(_POINTER):
            raise _pointer(path / name)
    config = objects["config.json"]
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path / 'config.json'} names no model_type, which transformers would need")
    check_fields(config, str(path))
    for name in _QUANTISERS:
        if (path / name).is_file():
            raise _is_quantised(str(path), how(_object(path / name)) or f"it holds {name}")
    for file, names in _weight_files(path, objects.get(INDEX), config).items():
        tensors = header(file)
        lacking = [name for name in names if name not in tensors]
        if lacking:
            raise ModelError(f"{file} lacks {named(lacking)}, which {INDEX} says it holds; fetch the model again")
        packed = [n for n, dtype in tensors.items() if dtype not in _PLAIN and n.endswith(_PACKED)]
        if packed:
            raise _is_quantised(str(path), f"{packed[0]} is {tensors[packed[0]]}")


def check_fields(config: Mapping[str, Any], source: str) -> None:
    """Refuse by its configuration a model that is quantised, or that reads and writes with different halves.

    Raises:
        ModelError: says which it is, and what to do.
    """
    for part in (config, *(v for k, v in config.items() if k.endswith("_config") and isinstance(v, Mapping))):
        for key in ("quantization_config", "compression_config", "quantization"):
            found = part.get(key)
            if found:
                said = how(found) if isinstance(found, Mapping) else ""
                raise _is_quantised(source, said or f"'{key}' in its config.json")
    if config.get("is_encoder_decoder") is True:
        raise ModelError(
            f"{source} is an encoder-decoder model ({config.get('model_type')}); only decoder-only (causal) language "
            "models can be edited"
        )


def how(quantisation: Mapping[str, Any]) -> str:
    """The method and bits that a quantisation's configuration names; empty where it names none."""
    fields = {**quantisation, **_mapping(quantisation.get("quantization"))}  # ModelOpt's lie one deeper
    method = fields.get("quant_method") or fields.get("quant_algo") or fields.get("quant_type")
    for bits in (4, 8):
        if fields.get(f"load_in_{bits}bit") or fields.get(f"_load_in_{bits}bit"):
            return f"bitsandbytes, {bits} bits"
    found = next((fields[key] for key in ("bits", "w_bit", "nbits") if isinstance(fields.get(key), int)), None)
    if isinstance(method, str):
        return method if found is None else f"{method}, {found} bits"
    return "" if found is None else f"{found} bits"


def header(file: Path) -> dict[str, str]:
    """Name -> dtype of the tensors of a safetensors file, whose length must be what its header says.

    Raises:
        ModelError: the file is missing, cut off, damaged, or another kind of file.
        EnvironmentFailure: it cannot be read.
    """
    if not file.is_file():
        raise ModelError(f"{file} is missing; fetch the model again")
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            start = opened.read(len(_POINTER))
            length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
            opened.seek(8)
            text = opened.read(length) if 0 < length <= min(size - 8, _HEADER_BYTES) else b""
    except OSError as error:
        raise EnvironmentFailure(f"{file} cannot be read: {error.strerror or error}") from error
    if size == 0:
        raise ModelError(f"{file} is empty; fetch the model again")
    if start.startswith(_POINTER):
        raise _pointer(file)
    damaged = ModelError(f"{file} is no whole safetensors file (cut off or damaged); fetch the model again")
    try:
        found = json.loads(text)
        tensors = {name: entry for name, entry in found.items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        dtypes = {name: str(entry["dtype"]) for name, entry in tensors.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise damaged from error
    if 8 + length + end != size:
        raise damaged
    return dtypes


def named(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _weight_files(path: Path, index: Mapping[str, Any] | None, config: Mapping[str, Any]) -> dict[Path, list[str]]:
    """The files that transformers reads the weights from, and the names that each is said to hold."""
    chosen = config.get("transformers_weights")
    if isinstance(chosen, str) and (path / chosen).is_file():
        return {path / chosen: []}
    if (path / WEIGHTS).is_file():
        return {path / WEIGHTS: []}
    if index is None:
        there = sorted(p.name for p in path.iterdir() if p.is_file())
        pickled = [n for n in there if n.endswith((".bin", ".pt", ".pth"))]
        others = [n for n in there if n.endswith(".safetensors")]
        if others:
            raise InputError(f"{path} holds no weights: it has {others[0]}, but neither {WEIGHTS} nor {INDEX}")
        extra = (
            f" (it has {pickled[0]}; pickled weights are never loaded, convert them to safetensors)" if pickled else ""
        )
        raise InputError(f"{path} holds no weights: no *.safetensors file{extra}")
    places = index.get("weight_map")
    if not isinstance(places, Mapping) or not places or not all(isinstance(v, str) for v in places.values()):
        raise ModelError(f"{path / INDEX} has no 'weight_map' of tensors to files; fetch the model again")
    files: dict[Path, list[str]] = {}
    for name, file in places.items():
        files.setdefault(path / file, []).append(name)
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise ModelError(
            f"{path} lacks {named(absent)} of the {len(files)} files that {INDEX} names; fetch the model again"
        )
    return files


def _object(file: Path) -> dict[str, Any]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"{file} cannot be read: {error.strerror or error}") from error
    if content.startswith(_POINTER):
        raise _pointer(file)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        why = "it is empty" if not content.strip() else " ".join(str(error).split())
        raise ModelError(f"{file} is no JSON ({why}); fetch the model again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object; fetch the model again")
    return found


def _begins(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_POINTER))
    except OSError as error:
        raise EnvironmentFailure(f"{file} cannot be read: {error.strerror or error}") from error


def _pointer(file: Path) -> ModelError:
    return ModelError(f"{file} is a git-LFS pointer and not the file itself; run `git lfs pull` in that folder")


def _is_quantised(source: str, said: str) -> ModelError:
    return ModelError(
        f"{source} is quantised ({said}); editing needs plain weights: give the checkpoint that it was quantised from, "
        "or one that was dequantised and saved"
    )


def is_adapter(source: str, config: Mapping[str, Any], *, beside: bool) -> ModelError:
    """The error of an adapter where a model should be.

    Args:
        source: What was given as the model.
        config: Its adapter_config.json.
        beside: Whether a model lies there too.
    """
    if beside:
        return ModelError(
            f"{source} holds {ADAPTER}: it is a PEFT adapter beside a model, and transformers would load both as one; "
            "move the adapter away, or merge it (`merge_and_unload`) and save the result as a model"
        )
    base = config.get("base_model_name_or_path")
    which = f" of the model '{base}'" if isinstance(base, str) and base else ""
    return ModelError(
        f"{source} is a PEFT adapter{which}, not a model; give the model itself, or merge the two "
        "(`merge_and_unload`) and give what that saves"
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
