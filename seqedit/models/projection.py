"""The feed-forward output projections of the decoder layers: reading and writing their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from seqedit.errors import ModelError


@dataclass(frozen=True, eq=False)
class Projection:
    """An FFN output projection.

    Attributes:
        name: Exact module name in the (unwrapped) model.
        module: ``nn.Linear`` or transformers' ``Conv1D``.
    """

    name: str
    module: nn.Module

    @property
    def transposed(self) -> bool:
        """True where the parameter is stored as (d_in, d_out), as in Conv1D."""
        return isinstance(self.module, Conv1D)

    @property
    def weight(self) -> nn.Parameter:
        """The parameter in its own layout."""
        return self.module.weight  # type: ignore[return-value]

    def matrix(self) -> Tensor:
        """The weight as a (d_out, d_in) view, detached.

        Raises:
            ModelError: the weight is not in memory.
        """
        self.check_in_memory()
        weight = self.weight.detach()
        return weight.T if self.transposed else weight

    def write(self, matrix: Tensor) -> None:
        """Overwrite the weight with a (d_out, d_in) matrix, cast to the parameter's dtype and device.

        Raises:
            ModelError: the weight is not in memory; what is written to it would be lost.
        """
        self.check_in_memory()
        with torch.no_grad():
            self.weight.copy_(matrix.T if self.transposed else matrix)

    def check_in_memory(self) -> None:
        """Refuse a weight that accelerate keeps elsewhere (on disk, in a CPU copy) and only lends to a forward pass.

        Raises:
            ModelError: names the module.
        """
        if self.weight.is_meta:
            raise ModelError(
                f"the weight of '{self.name}' is offloaded, so an edit of it would be lost; choose a device_map that "
                "keeps the edited layers in memory"
            )


class Projections:
    """The FFN output projections of a model: indexed by a layer's number, walked from the lowest to the highest.

    Layers of one model may differ (dense ones beside mixtures of experts, attention beside state spaces); one that has
    none says why when it is asked.
    """

    def __init__(self, found: Mapping[int, Projection], reasons: Mapping[int, str]) -> None:
        """Projections and, for each layer without one, what is said of it."""
        self._found, self._reasons = dict(sorted(found.items())), dict(reasons)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have one."""
        return tuple(self._found)

    def reason(self, layer: int) -> str | None:
        """Why a layer has none; None where it has one."""
        return self._reasons.get(layer)

    @overload
    def __getitem__(self, layer: int) -> Projection: ...
    @overload
    def __getitem__(self, layer: slice) -> list[Projection]: ...
    def __getitem__(self, layer: int | slice) -> Projection | list[Projection]:
        """A layer's projection; of a slice, those of its layers that there are.

        Raises:
            ModelError: the layer has none; says why.
        """
        if isinstance(layer, slice):
            return [self._found[i] for i in range(*layer.indices(max(self._found, default=-1) + 1)) if i in self._found]
        if layer in self._found:
            return self._found[layer]
        raise ModelError(self._reasons.get(layer, f"the model has no layer {layer}"))

    def __iter__(self) -> Iterator[Projection]:
        """Those there are, from the lowest layer to the highest."""
        return iter(self._found.values())

    def items(self) -> Iterator[tuple[int, Projection]]:
        """(layer, projection) of those there are."""
        return iter(self._found.items())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)

    def of(self, layers: Sequence[int]) -> list[Projection]:
        """Those of some layers."""
        return [self[layer] for layer in layers]


def linears(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The linear modules inside a module by name; one that carries a LoRA counts as its base layer."""
    found: list[tuple[str, nn.Module]] = []
    wrapped: list[str] = []
    for name, part in module.named_modules():
        if any(name.startswith(outer) for outer in wrapped):
            continue
        if isinstance(part, nn.Linear | Conv1D):
            found.append((name, part))
        elif isinstance(base := getattr(part, "base_layer", None), nn.Linear | Conv1D):
            wrapped.append(f"{name}.")
            found.append((name, base))
    return found


def features(module: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a linear module."""
    rows, columns = module.weight.shape  # type: ignore[union-attr,misc]
    return (int(rows), int(columns)) if isinstance(module, Conv1D) else (int(columns), int(rows))


def check_editable(module: nn.Module, wrapper: nn.Module, name: str) -> None:
    """Refuse an FFN output projection whose weight cannot be edited.

    Args:
        module: The linear module.
        wrapper: What is called in its place, the module itself where nothing is.
        name: Its module name.

    Raises:
        ModelError: its weight is quantised, or a PEFT layer around it does more than add.
    """
    if not module.weight.is_floating_point():  # type: ignore[union-attr,operator]
        raise ModelError(f"'{name}' is quantised ({module.weight.dtype}); its weight cannot be edited")
    if wrapper is not module and not _only_adds(wrapper):
        raise ModelError(
            f"'{name}' carries a PEFT layer that does more than add to its output (DoRA, for one); merge or unload it "
            "first"
        )


def _only_adds(wrapper: nn.Module) -> bool:
    """Whether a PEFT layer is a plain LoRA, so that what the base layer puts out comes out of the wrapper as it is."""
    scales = getattr(wrapper, "lora_magnitude_vector", None) or getattr(wrapper, "lora_variant", None)
    return bool(getattr(wrapper, "lora_A", None)) and not scales


def parent(name: str) -> str:
    """Name of the module that holds a module, "" for the top."""
    return name.rpartition(".")[0]
