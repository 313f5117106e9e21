"""A trained hypernetwork on disk: ``mend.safetensors`` with its tensors, ``mend_config.json`` with what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from seqedit.adapters.adapter import BaseModel
from seqedit.adapters.files import read_tensors
from seqedit.errors import InputError
from seqedit.methods.mend.hypernetwork import Hypernetwork
from seqedit.methods.mend.place import CONFIG, FORMAT, VERSION, read_config, resolve_hypernetwork
from seqedit.methods.mend.place import read_layers as read_layers
from seqedit.models.anatomy import Anatomy, Projection, features
from seqedit.support.digests import tensors_digest
from seqedit.support.writing import write_whole

WEIGHTS = "mend.safetensors"


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained hypernetwork and where it came from.

    Attributes:
        network: Its networks, in float32.
        base_model: Name and fingerprint of the model it was trained on.
        unedited_part: Digest of that model's weights that no edit touches (`unedited_part`).
        modules: Layer -> name of its FFN output projection.
        training: Settings and records of the training, as JSON types.
        validation: Figures of the held-out records, as JSON types.
        place: The directory, for messages.
    """

    network: Hypernetwork
    base_model: BaseModel
    unedited_part: str
    modules: Mapping[int, str]
    training: Mapping[str, Any]
    validation: Mapping[str, Any]
    place: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the tensors' content."""
        return tensors_digest(self.network.state_dict())

    def require(self, parts: Anatomy) -> list[Projection]:
        """The projections it edits in a model, which must be its base model or an edited state of it.

        Raises:
            InputError: another model; names both, or the module that does not fit.
        """
        names = {p.name: p for p in parts.projections}
        for layer, name in self.modules.items():
            if name not in names or features(names[name].module) != self.network.shapes[layer]:
                shape = "x".join(map(str, self.network.shapes[layer]))
                raise InputError(
                    f"{self.place}: the hypernetwork was trained for '{self.base_model.name}'; the model has no FFN "
                    f"output projection '{name}' of {shape}"
                )
        found = unedited_part(parts)
        if found != self.unedited_part:
            raise InputError(
                f"{self.place}: the hypernetwork was trained for '{self.base_model.name}' (weights that edits leave "
                f"alone: {self.unedited_part[:12]}), this is another base model ({found[:12]}); train one for it with "
                "'seqedit train-mend'"
            )
        return [names[name] for name in self.modules.values()]


def unedited_part(parts: Anatomy) -> str:
    """SHA-256 (hex) of all weights but the FFN output projections', which is equal in every edited state of a model."""
    edited = {id(p.weight) for p in parts.projections}
    return tensors_digest((name, p) for name, p in parts.model.named_parameters() if id(p) not in edited)


def save_hypernetwork(out: Path, trained: Trained) -> None:
    """Write a hypernetwork's two files, each of them whole or not at all; the configuration comes last."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.network.state_dict().items()}
    network = trained.network
    config = {
        "format": FORMAT,
        "version": VERSION,
        "base_model": {
            "name": trained.base_model.name,
            "fingerprint": trained.base_model.fingerprint,
            "unedited_part": trained.unedited_part,
        },
        "layers": [
            {"layer": layer, "module": trained.modules[layer], "d_in": d_in, "d_out": d_out}
            for layer, (d_in, d_out) in network.shapes.items()
        ],
        "rank": network.rank,
        "training": dict(trained.training),
        "validation": dict(trained.validation),
        "digest": tensors_digest(tensors),
    }
    write_whole(out / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    text = json.dumps(config, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(out / CONFIG, (text + "\n").encode())


def load_hypernetwork(place: str | Path) -> Trained:
    """Read a hypernetwork; every failure is an `InputError` that names the file."""
    folder = resolve_hypernetwork(place)
    data = read_config(folder)
    config = folder / CONFIG
    try:
        base = BaseModel(str(data["base_model"]["name"]), str(data["base_model"]["fingerprint"]))
        part, digest = str(data["base_model"]["unedited_part"]), str(data["digest"])
        shapes = {int(row["layer"]): (int(row["d_in"]), int(row["d_out"])) for row in data["layers"]}
        modules = {int(row["layer"]): str(row["module"]) for row in data["layers"]}
        rank, training, validation = int(data["rank"]), dict(data["training"]), dict(data["validation"])
        if not shapes or rank < 1 or min(min(shape) for shape in shapes.values()) < 1:
            raise ValueError("layers and sizes must be positive")
    except KeyError as error:
        raise InputError(f"{config}: field {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{config}: malformed ({error})") from error
    weights = folder / WEIGHTS
    tensors = read_tensors(weights)
    # Without memory: sizes from a damaged file must not be allocated before they are compared.
    with torch.device("meta"):
        wanted = Hypernetwork(shapes, rank).state_dict()
    _check(weights, tensors, wanted)
    if tensors_digest(tensors) != digest:
        raise InputError(f"{weights}: its content is not what {CONFIG} names ({digest[:12]}); the file is damaged")
    network = Hypernetwork(shapes, rank)
    network.load_state_dict(tensors)
    network.requires_grad_(False)
    return Trained(network, base, part, dict(sorted(modules.items())), training, validation, str(folder))


def _check(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name, tensor in wanted.items():
        if name not in tensors:
            raise InputError(f"{path}: tensor '{name}' is missing")
        if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
            raise InputError(
                f"{path}: tensor '{name}' is {tensors[name].dtype} {tuple(tensors[name].shape)}, {CONFIG} asks for "
                f"{tensor.dtype} {tuple(tensor.shape)}"
            )
        if not bool(torch.isfinite(tensors[name]).all()):
            raise InputError(f"{path}: tensor '{name}' holds values that are not finite")
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise InputError(f"{path}: tensor '{extra[0]}' is none of a MEND hypernetwork's")
