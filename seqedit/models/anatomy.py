"""Where the editable parts of a decoder-only language model are, found from its module tree.

Nothing here knows a model family by name. The decoder layers are the longest list of equally built modules; the
FFN output projection is, within a layer, the last registered linear module that writes to the residual stream. A
PEFT-wrapped model is read as the model inside it: names are those of the unwrapped model, and of a module that
carries a LoRA it is the base layer that is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import nn

from seqedit.errors import InputError, ModelError
from seqedit.forward.fixed_past import continues
from seqedit.forward.prefix_trees import takes_trees
from seqedit.forward.protocols import CausalLM
from seqedit.forward.trials import adds_output
from seqedit.models.projection import Projection, features, linears, output_projection, parent

__all__ = ["Anatomy", "Projection", "anatomy", "features"]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of one model.

    Attributes:
        model: The model itself.
        layers: Decoder layers in order.
        layer_names: Their module names.
        projections: FFN output projection of each layer.
        final_norm: Normalisation between the last layer and the LM head.
        final_norm_name: Its module name.
        lm_head: Output embedding.
        hidden_size: Width d of the residual stream.
    """

    model: CausalLM
    layers: tuple[nn.Module, ...]
    layer_names: tuple[str, ...]
    projections: tuple[Projection, ...]
    final_norm: nn.Module
    final_norm_name: str
    lm_head: nn.Module
    hidden_size: int

    @cached_property
    def adds_ffn_output(self) -> bool:
        """True where layers add their FFN's output to the residual stream as it is, not normalised or scaled.

        Found by running one token through the first layer, which stands for all: they are built alike.
        """
        return adds_output(self.model, self.layers[0], self.projections[0].module)

    @cached_property
    def continues(self) -> bool:
        """True where the model can go on from fixed keys and values of earlier tokens, found by trying."""
        return continues(self.model, self.layers[-1], trees=self.takes_trees)

    @cached_property
    def takes_trees(self) -> bool:
        """True where the model can run sequences that begin alike as one row (`seqedit.forward.prefix_trees`), found
        by trying."""
        return takes_trees(self.model)

    @property
    def last_ffn(self) -> nn.Module | None:
        """The last layer's feed-forward block; None where its parts stand in the layer itself (OPT)."""
        name = parent(self.projections[-1].name.removeprefix(f"{self.layer_names[-1]}."))
        return self.layers[-1].get_submodule(name) if name else None

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
        """The attention's output projection of a layer.

        The first block that writes to the residual stream is the attention; within it the output projection is
        registered last, after a query, key or value that may be as wide as the residual stream.

        Raises:
            ModelError: the layer has no other writer than the FFN output projection.
        """
        (layer,) = self.check_layers([layer])
        ffn = self.projections[layer].module
        writers = [
            (n, m) for n, m in linears(self.layers[layer]) if m is not ffn and features(m)[1] == self.hidden_size
        ]
        if not writers:
            raise ModelError(
                f"layer '{self.layer_names[layer]}' has no attention output projection that could be found"
            )
        name, module = [(n, m) for n, m in writers if parent(n) == parent(writers[0][0])][-1]
        return Projection(f"{self.layer_names[layer]}.{name}", module)

    def projections_of(self, layers: Sequence[int]) -> list[Projection]:
        """The FFN output projections of some layers."""
        return [self.projections[layer] for layer in self.check_layers(layers)]


def anatomy(model: CausalLM) -> Anatomy:
    """Find the decoder layers, FFN output projections, final norm and LM head of a causal LM.

    Raises:
        ModelError: says which part was not found or is ambiguous.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        raise ModelError(f"{type(model).__name__} has no LM head; load it with AutoModelForCausalLM")
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    width = int(config.hidden_size)
    inner = _unwrapped(model)
    name, layers = _decoder_layers(inner)
    names = tuple(f"{name}.{i}" for i in range(len(layers)))
    projections = tuple(
        output_projection(layer, layer_name, width) for layer, layer_name in zip(layers, names, strict=True)
    )
    norm_name, norm = _final_norm(inner, name, width)
    return Anatomy(model, layers, names, projections, norm, norm_name, head, width)


def _unwrapped(model: CausalLM) -> nn.Module:
    """The model inside a PEFT wrapper, or the model itself."""
    if not hasattr(model, "get_base_model"):
        return cast(nn.Module, model)
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise ModelError(
            "the PEFT adapter of the model puts virtual tokens before the prompt, which moves every token's position; "
            "edit the base model"
        )
    return model.get_base_model()  # type: ignore[no-any-return]


def _decoder_layers(model: nn.Module) -> tuple[str, tuple[nn.Module, ...]]:
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module)
        and len({type(m) for m in module}) == 1
        # A list inside a layer (experts, for one) is not the list of layers.
        and "." in name
        and any(linears(m) for m in module)
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
