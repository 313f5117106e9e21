"""An update to be audited: an adapter of this project with its record, or a plain LoRA without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seqedit.adapters import files
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.delta import Delta, LowRank
from seqedit.adapters.sidecar import read_json
from seqedit.errors import InputError
from seqedit.facts.requests import Request


@dataclass(frozen=True, eq=False)
class Update:
    """What was added to a model's FFN output projections.

    Attributes:
        deltas: Module name -> its delta.
        requests: What it was made for; empty where no record came with it.
        adapter: The adapter that it is; None for a plain LoRA.
    """

    deltas: Mapping[str, Delta]
    requests: tuple[Request, ...] = ()
    adapter: Adapter | None = None


def read_update(directory: str | Path) -> Update:
    """Read an adapter folder; without ``seqedit.json`` in it, as the plain LoRA that stock PEFT sees.

    The factors' scale is of no weight: it changes no row space.

    Raises:
        InputError: the folder holds no LoRA, or one that is malformed.
    """
    source = Path(directory)
    if (source / files.SIDECAR).exists():
        adapter = Adapter.from_pretrained(source)
        return Update(adapter.deltas, adapter.requests, adapter)
    config = read_json(source / files.CONFIG)
    if config.get("peft_type") != "LORA":
        raise InputError(f"{source / files.CONFIG}: peft_type is {config.get('peft_type')!r}; only LORA can be audited")
    tensors = files.read_tensors(source / files.WEIGHTS)
    start, end = files.lora_name("|", "lora_A").split("|")
    names = [key.removeprefix(start).removesuffix(end) for key in sorted(tensors) if key.endswith(end)]
    deltas: dict[str, Delta] = {}
    for name in names:
        a, b = (tensors.get(files.lora_name(name, part)) for part in ("lora_A", "lora_B"))
        if a is None or b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise InputError(f"{source / files.WEIGHTS}: '{name}' has not two factors that fit each other")
        deltas[name] = LowRank(b, a)
    if not deltas:
        raise InputError(f"{source / files.WEIGHTS} holds no LoRA factors")
    return Update(deltas)
