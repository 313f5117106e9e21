"""Where the editable parts of a decoder-only language model are, found from its module tree.

Nothing here knows a model family by name. The decoder layers are the longest list of equally built modules; the
FFN output projection is, within a layer, the last registered linear module that writes to the residual stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from seqedit.errors import InputError, ModelError


@dataclass(frozen=True, eq=False)
class Projection:
    """An FFN output projection.

    Attributes:
        name: Exact module name in the model.
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
        """The weight as a (d_out, d_in) view, detached."""
        weight = self.weight.detach()
        return weight.T if self.transposed else weight

    def write(self, matrix: Tensor) -> None:
        """Overwrite the weight with a (d_out, d_in) matrix, cast to the parameter's dtype and device."""
        with torch.no_grad():
            self.weight.copy_(matrix.T if self.transposed else matrix)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of one model.

    Attributes:
        layers: Decoder layers in order.
        layer_names: Their module names.
        projections: FFN output projection of each layer.
        final_norm: Normalisation between the last layer and the LM head.
        final_norm_name: Its module name.
        lm_head: Output embedding.
        hidden_size: Width d of the residual stream.
    """

    layers: tuple[nn.Module, ...]
    layer_names: tuple[str, ...]
    projections: tuple[Projection, ...]
    final_norm: nn.Module
    final_norm_name: str
    lm_head: nn.Module
    hidden_size: int

    def check_layers(self, layers: Sequence[int]) -> tuple[int, ...]:
        """The layers in increasing order.

        Raises:
            InputError: names a layer that the model does not have, or one given twice.
        """
        if not layers:
            raise InputError("no layers to edit were given; say which, e.g. --layers 1,2,3")
        for layer in layers:
            if not 0 <= layer < len(self.layers):
                raise InputError(
                    f"layer {layer} is out of range: the model has {len(self.layers)} layers, "
                    f"0 to {len(self.layers) - 1}"
                )
        if len(set(layers)) != len(layers):
            raise InputError(f"layers {list(layers)} name one layer twice")
        return tuple(sorted(layers))

    def attention_output(self, layer: int) -> Projection:
        """The attention's output projection of a layer: the first module that writes to the residual stream.

        Raises:
            ModelError: the layer has no other writer than the FFN output projection.
        """
        (layer,) = self.check_layers([layer])
        ffn = self.projections[layer].module
        for name, module in _linears(self.layers[layer]):
            if module is not ffn and features(module)[1] == self.hidden_size:
                return Projection(f"{self.layer_names[layer]}.{name}", module)
        raise ModelError(f"layer '{self.layer_names[layer]}' has no attention output projection that could be found")

    def projections_of(self, layers: Sequence[int]) -> list[Projection]:
        """The FFN output projections of some layers."""
        return [self.projections[layer] for layer in self.check_layers(layers)]


def anatomy(model: Any) -> Anatomy:
    """Find the decoder layers, FFN output projections, final norm and LM head of a causal LM.

    Raises:
        ModelError: says which part was not found or is ambiguous.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        raise ModelError(f"{type(model).__name__} has no LM head; load it with AutoModelForCausalLM")
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    width = int(config.hidden_size)
    name, layers = _decoder_layers(model)
    names = tuple(f"{name}.{i}" for i in range(len(layers)))
    projections = tuple(
        _output_projection(layer, layer_name, width) for layer, layer_name in zip(layers, names, strict=True)
    )
    norm_name, norm = _final_norm(model, name, width)
    return Anatomy(layers, names, projections, norm, norm_name, head, width)


def _decoder_layers(model: nn.Module) -> tuple[str, tuple[nn.Module, ...]]:
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module)
        and len({type(m) for m in module}) == 1
        # A list inside a layer (experts, for one) is not the list of layers.
        and "." in name
        and any(_linears(m) for m in module)
    ]
    outer = [(n, m) for n, m in lists if not any(n.startswith(other + ".") for other, _ in lists if other != n)]
    if not outer:
        raise ModelError(f"{type(model).__name__}: found no list of decoder layers in the module tree")
    longest = max(len(m) for _, m in outer)
    best = [(n, m) for n, m in outer if len(m) == longest]
    if len(best) > 1:
        raise ModelError(
            f"{type(model).__name__}: several lists could be the decoder layers: {', '.join(n for n, _ in best)}"
        )
    name, module = best[0]
    return name, tuple(module)


def _linears(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear | Conv1D)]


def features(module: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a linear module."""
    rows, columns = module.weight.shape  # type: ignore[union-attr,misc]
    return (int(rows), int(columns)) if isinstance(module, Conv1D) else (int(columns), int(rows))


def _output_projection(layer: nn.Module, layer_name: str, width: int) -> Projection:
    stacked = [n for n, p in layer.named_parameters() if p.ndim == 3 and width in p.shape]
    if stacked:
        raise ModelError(
            f"layer '{layer_name}' stacks feed-forward experts in '{stacked[0]}'; editing a mixture of experts is not "
            "supported"
        )
    linears = _linears(layer)
    writers = [(n, m) for n, m in linears if features(m)[1] == width]
    if not writers:
        raise ModelError(
            f"layer '{layer_name}' has no linear module that writes {width} features; quantised or fused feed-forward "
            "weights cannot be edited"
        )
    name, module = writers[-1]
    d_in = features(module)[0]
    parent = name.rpartition(".")[0]
    # What reads the residual stream beside it: one expansion, or gate and up (fused into one of 2 d_in, perhaps).
    # Three readers would be an attention's query, key and value.
    readers = [features(m) for n, m in linears if n != name and _parent(n) == parent and features(m)[0] == width]
    if not 1 <= len(readers) <= 2 or any(made not in (d_in, 2 * d_in) for _, made in readers):
        raise ModelError(
            f"layer '{layer_name}': '{name}' writes to the residual stream, but what feeds it is no feed-forward "
            "expansion; this layer's structure is not supported"
        )
    twins = [n for n, m in writers if n.rpartition(".")[2] == name.rpartition(".")[2] and features(m)[0] == d_in]
    if len(twins) > 1 and len({_parent(_parent(n)) for n in twins}) == 1 and _parent(parent):
        raise ModelError(
            f"layer '{layer_name}' has several feed-forward experts ({', '.join(twins[:3])}, ...); editing a mixture "
            "of experts is not supported"
        )
    return Projection(f"{layer_name}.{name}", module)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _final_norm(model: nn.Module, layers_name: str, width: int) -> tuple[str, nn.Module]:
    parent_name = layers_name.rpartition(".")[0]
    parent = model.get_submodule(parent_name)
    list_name = layers_name.rpartition(".")[2]
    children = list(parent.named_children())
    position = [n for n, _ in children].index(list_name)

    def is_norm(module: nn.Module) -> bool:
        weight = getattr(module, "weight", None)
        return weight is not None and weight.ndim == 1 and weight.shape[0] == width

    after = [(n, m) for n, m in children[position + 1 :] if is_norm(m)]
    before = [(n, m) for n, m in children[:position] if is_norm(m)]
    found = after or before[-1:]
    if not found:
        raise ModelError(f"{type(model).__name__}: found no final norm beside '{layers_name}'")
    name, module = found[0]
    return f"{parent_name}.{name}", module
