"""The state of an unfinished training, in one file, so that it is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from seqedit.errors import InputError
from seqedit.methods.mend.hypernetwork import Hypernetwork
from seqedit.methods.mend.place import CHECKPOINT as CHECKPOINT
from seqedit.support.memory import is_out_of_memory
from seqedit.support.writing import write_whole

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class State:
    """Where a training stands.

    Attributes:
        step: Adam steps taken.
        best: Lowest validation loss so far.
        since_best: Validations since then.
        history: Figures of all validations, as JSON types.
        best_tensors: The hypernetwork that gave the lowest loss.
    """

    step: int = 0
    best: float = float("inf")
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_tensors: dict[str, Tensor] = field(default_factory=dict)


def write_checkpoint(
    out: Path, network: Hypernetwork, optimizer: torch.optim.Adam, state: State, identity: dict[str, Any]
) -> None:
    """Write the state of a training; ``identity`` is what a resumed one must agree in, as JSON types."""
    tensors = {f"now.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best_tensors.items()}
    for name, parameter in network.named_parameters():
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    numbers = {k: v for k, v in asdict(state).items() if k != "best_tensors"}
    header = json.dumps({"state": numbers, "identity": identity}, sort_keys=True)
    # Clones, because safetensors refuses tensors that share memory.
    content = save({name: t.detach().cpu().clone() for name, t in tensors.items()}, metadata={"training": header})
    write_whole(out / CHECKPOINT, content)


def read_checkpoint(out: Path, network: Hypernetwork, optimizer: torch.optim.Adam, identity: dict[str, Any]) -> State:
    """Put network and optimizer back to where a training stood.

    Raises:
        InputError: there is no checkpoint, it is damaged, or it is of another training; says in what they differ.
    """
    path = out / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{path} is missing: there is no unfinished training in {out}; start one without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state, before = State(**header["state"]), dict(header["identity"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as a checkpoint ({error})") from error
    for name, value in identity.items():
        if before.get(name) != value:
            raise InputError(
                f"{path}: its training has another '{name}' ({before.get(name)!r}, now {value!r}); "
                "a training resumes only as it began"
            )
    try:
        network.load_state_dict(dict(_under("now", tensors)))
        state.best_tensors = dict(_under("best", tensors))
        if state.step:
            for name, parameter in network.named_parameters():
                moments = {moment: tensors[f"{moment}.{name}"].to(parameter) for moment in _MOMENTS}
                optimizer.state[parameter] = {"step": torch.tensor(float(state.step)), **moments}
    except (KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"{path}: damaged ({' '.join(str(error).split())[:200]})") from error
    return state


def _under(prefix: str, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}."):
            yield name.removeprefix(f"{prefix}."), tensor
