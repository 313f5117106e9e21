"""The files of an adapter directory, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from seqedit.adapters import card as cards
from seqedit.adapters.delta import Delta, Dense, LowRank, is_identity
from seqedit.adapters.file_names import ALL as ALL
from seqedit.adapters.file_names import CARD as CARD
from seqedit.adapters.file_names import CONFIG as CONFIG
from seqedit.adapters.file_names import SIDECAR as SIDECAR
from seqedit.adapters.file_names import VALUES as VALUES
from seqedit.adapters.file_names import WEIGHTS as WEIGHTS
from seqedit.adapters.sidecar import check_modules
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.support.printable import escape

_PREFIX = "base_model.model."
# Some 16,000 tensors with names as long as real ones. The format allows 100 MB, and a header of a million empty
# tensors takes a gigabyte and many seconds.
MAX_HEADER = 2 << 20
_FACTORS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def lora_name(module: str, part: str) -> str:
    """PEFT's name of one factor, ``lora_A`` or ``lora_B``, of a module."""
    return f"{_PREFIX}{module}.{part}.weight"


def lora_tensors(deltas: Mapping[str, Delta], *, pad: bool) -> dict[str, Tensor]:
    """PEFT's tensor names and values; ``pad`` fills every module with zeros up to one rank.

    One uniform rank without rank patterns is what every consumer of LoRA files reads right.
    """
    rank = max(delta.rank for delta in deltas.values())
    tensors = {}
    for name, delta in sorted(deltas.items()):
        if isinstance(delta, LowRank):
            b, a = delta.B, delta.A
        else:
            b, a = torch.eye(delta.rank, dtype=torch.float32), delta.delta
        if pad and delta.rank < rank:
            extra = rank - delta.rank
            b = torch.nn.functional.pad(b, (0, extra))
            a = torch.nn.functional.pad(a, (0, 0, 0, extra))
        tensors[lora_name(name, "lora_A")] = a.contiguous()
        tensors[lora_name(name, "lora_B")] = b.contiguous()
    return tensors


def deltas_from_lora(tensors: Mapping[str, Tensor], modules: Mapping[str, Mapping[str, Any]]) -> dict[str, Delta]:
    """The inverse of `lora_tensors`: padding removed, dense deltas recognised.

    Args:
        tensors: Content of the weights file.
        modules: Module name -> {"kind": "low_rank" | "dense", "rank": n}, from the sidecar.

    Every module's factors are filled up to one rank, the largest, as `lora_tensors` writes them. So what is read, and
    what it is written as again, takes no more memory than the file.

    Raises:
        InputError: ``modules`` is malformed; a tensor is missing, left over, or of another shape or type.
    """
    check_modules(modules)
    padded = max(info["rank"] for info in modules.values())
    left = dict(tensors)
    deltas: dict[str, Delta] = {}
    for name, info in modules.items():
        pair = []
        for part in ("lora_A", "lora_B"):
            key = lora_name(name, part)
            if key not in left:
                raise InputError(f"{WEIGHTS}: tensor '{key}' is missing")
            pair.append(left.pop(key))
        a, b = pair
        rank = info["rank"]
        _check_factors(name, b, a, padded, rank if info["kind"] == "dense" else None)
        if info["kind"] == "dense" or is_identity(b[:, :rank]):  # as `Adapter` has it
            deltas[name] = Dense(a[:rank].contiguous())
        else:
            deltas[name] = LowRank(b[:, :rank].contiguous(), a[:rank].contiguous())
    if left:
        raise InputError(f"{WEIGHTS}: tensor '{sorted(left)[0]}' belongs to no module of {SIDECAR}")
    return deltas


def _check_factors(name: str, b: Tensor, a: Tensor, padded: int, dense: int | None) -> None:
    """Refuse factors of a module that `lora_tensors` could not have written; ``dense`` is d_out of a dense delta."""
    shapes = f"{WEIGHTS}: the factors of '{name}' have shapes {tuple(b.shape)} and {tuple(a.shape)}"
    if b.ndim != 2 or a.ndim != 2 or not b.shape[0] or not a.shape[1]:
        raise InputError(f"{shapes}; two matrices are needed, neither of them empty")
    if b.shape[1] != padded or a.shape[0] != padded:
        raise InputError(f"{shapes}, not the rank {padded} that every module is filled up to")
    if dense is not None and b.shape[0] != dense:
        raise InputError(f"{shapes}; beside a dense delta of {dense} rows there must be the identity")
    for tensor in (b, a):
        if tensor.dtype not in _FACTORS:
            raise InputError(f"{WEIGHTS}: the factors of '{name}' are {tensor.dtype}, not floating-point numbers")


def value_tensors(
    keys: Mapping[str, Tensor],
    target_values: Tensor | None,
    residuals: Mapping[str, Tensor] | None = None,
    statistics: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Keys, target values, residuals and statistics under the names they have in the values file."""
    tensors = {f"keys.{name}": key.to(torch.float32).contiguous() for name, key in sorted(keys.items())}
    if target_values is not None:
        tensors["target_values"] = target_values.to(torch.float32).contiguous()
    for kind, of in (("residuals", residuals), ("statistics", statistics)):
        for name, tensor in sorted((of or {}).items()):
            tensors[f"{kind}.{name}"] = tensor.to(torch.float32).contiguous()
    return tensors


def check_values(tensors: Mapping[str, Tensor]) -> None:
    """Refuse a values file with anything else than keys, target values, residuals and statistics: no digest
    would cover it.

    Raises:
        InputError: names the tensor.
    """
    for name in sorted(tensors):
        if name != "target_values" and not name.startswith(("keys.", "residuals.", "statistics.")):
            raise InputError(
                f"{VALUES}: tensor '{name[:100]}' is neither keys nor target values nor residuals nor statistics"
            )
        tensor = tensors[name]
        if tensor.dtype != torch.float32 or tensor.ndim != 2:
            found = f"{tensor.dtype} with shape {tuple(tensor.shape)}"
            raise InputError(f"{VALUES}: tensor '{name[:100]}' is {found}, not a float32 matrix")


def lora_config(
    deltas: Mapping[str, Delta], base_model: str, fan_in_fan_out: bool, as_parameters: bool = False
) -> dict[str, Any]:
    """``adapter_config.json``: scale alpha / r = 1, exact names of modules or of their weights, sorted."""
    names = sorted(deltas)
    targets: dict[str, Any] = {"target_modules": names}
    if as_parameters:
        targets = {"target_modules": [], "target_parameters": [f"{name}.weight" for name in names]}
    rank = max(delta.rank for delta in deltas.values())
    return {
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        **targets,
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def model_card(base_model: str, method: Mapping[str, Any], requests: Sequence[Request]) -> str:
    """A model card in the Hub's format: base model, facts edited, how to load."""
    tags = ["lora", "knowledge-editing", "seqedit"]
    return "\n".join(
        [
            *cards.header({"base_model": base_model, "library_name": "peft", "tags": tags}),
            f"# {len(requests)} edits by {escape(str(method.get('name', 'unknown')))}",
            "",
            "A batch of knowledge edits as a LoRA adapter over the feed-forward output projections.",
            "",
            "```python",
            "from peft import PeftModel",
            'model = PeftModel.from_pretrained(base_model, "this/directory")',
            "```",
            "",
            *cards.facts_table(requests, limit=50, rest=f"all are in `{SIDECAR}`"),
            "",
        ]
    )


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes."""
    path.write_text(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors; one metadata entry at most, because several are written in random order."""
    path.write_bytes(save(dict(tensors), metadata={"format": "pt"}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors; every failure is an `InputError` that names the file."""
    try:
        with path.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        if header > MAX_HEADER:
            raise InputError(f"{path}: not readable as safetensors (header of {header:,} > {MAX_HEADER:,} bytes)")
        return load_file(path)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: not readable as safetensors ({error})") from error
