"""The feed-forward output projection of a decoder layer: finding it, reading and writing its weight."""

from __future__ import annotations

from dataclasses import dataclass

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


def output_projection(layer: nn.Module, layer_name: str, width: int) -> Projection:
    """The FFN output projection of a decoder layer: the last registered linear that writes to the residual stream.

    Args:
        layer: The decoder layer.
        layer_name: Its module name.
        width: Features of the residual stream.

    Raises:
        ModelError: says why there is none that could be edited.
    """
    stacked = [n for n, p in layer.named_parameters() if p.ndim == 3 and width in p.shape]
    if stacked:
        raise ModelError(
            f"layer '{layer_name}' stacks feed-forward experts in '{stacked[0]}'; editing a mixture of experts is not "
            "supported"
        )
    inside = linears(layer)
    writers = [(n, m) for n, m in inside if features(m)[1] == width]
    if not writers:
        raise ModelError(
            f"layer '{layer_name}' has no linear module that writes {width} features; quantised or fused feed-forward "
            "weights cannot be edited"
        )
    name, module = writers[-1]
    d_in = features(module)[0]
    block = parent(name)
    # Beside it is only what reads the residual stream: one expansion, or gate and up (fused into one of 2 d_in,
    # perhaps). Three readers would be an attention's query, key and value; other sizes, a state-space mixer's maps.
    siblings = [features(m) for n, m in inside if n != name and parent(n) == block]
    if not 1 <= len(siblings) <= 2 or any(read != width or made not in (d_in, 2 * d_in) for read, made in siblings):
        raise ModelError(
            f"layer '{layer_name}': '{name}' writes to the residual stream, but what feeds it is no feed-forward "
            "expansion; this layer's structure is not supported"
        )
    twins = [n for n, m in writers if n.rpartition(".")[2] == name.rpartition(".")[2] and features(m)[0] == d_in]
    if len(twins) > 1 and len({parent(parent(n)) for n in twins}) == 1 and parent(block):
        raise ModelError(
            f"layer '{layer_name}' has several feed-forward experts ({', '.join(twins[:3])}, ...); editing a mixture "
            "of experts is not supported"
        )
    if not module.weight.is_floating_point():  # type: ignore[union-attr,operator]
        raise ModelError(f"'{layer_name}.{name}' is quantised ({module.weight.dtype}); its weight cannot be edited")
    wrapper = layer.get_submodule(name)
    if wrapper is not module and not _only_adds(wrapper):
        raise ModelError(
            f"'{layer_name}.{name}' carries a PEFT layer that does more than add to its output (DoRA, for one); "
            "merge or unload it first"
        )
    return Projection(f"{layer_name}.{name}", module)


def _only_adds(wrapper: nn.Module) -> bool:
    """Whether a PEFT layer is a plain LoRA, so that what the base layer puts out comes out of the wrapper as it is."""
    scales = getattr(wrapper, "lora_magnitude_vector", None) or getattr(wrapper, "lora_variant", None)
    return bool(getattr(wrapper, "lora_A", None)) and not scales


def parent(name: str) -> str:
    """Name of the module that holds a module, "" for the top."""
    return name.rpartition(".")[0]
