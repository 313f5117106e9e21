"""Where the editable parts of a decoder-only language model are, proven on the loaded model.

Nothing here knows a model family by name. The decoder layers are those that text runs through; the FFN output
projection of a layer is the linear module that was seen to act as one (`seqedit.models.blocks`). A PEFT-wrapped model
is read as the model inside it: names are those of the unwrapped model, and of a module that carries a LoRA it is the
base layer that is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from torch import nn

from seqedit.errors import InputError, ModelError
from seqedit.forward.configuration import residual_width
from seqedit.forward.fixed_past import continues
from seqedit.forward.pathways import adds_outputs
from seqedit.forward.prefix_trees import takes_trees
from seqedit.forward.protocols import CausalLM
from seqedit.models.blocks import find_blocks
from seqedit.models.projection import Projection, Projections, features, linears, parent

__all__ = ["Anatomy", "Projection", "Projections", "anatomy", "features"]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of one model.

    Attributes:
        model: The model itself.
        layers: Decoder layers in order.
        layer_names: Their module names.
        projections: FFN output projection of each layer that has one.
        final_norm: Normalisation between the last layer and the LM head; None where there is none with weights.
        final_norm_name: Its module name; "" where there is none.
        lm_head: Output embedding.
        hidden_size: Width d of the residual stream.
        mixers: Of each layer, within it, the linear module that was seen to write what other tokens have part in.
    """

    model: CausalLM
    layers: tuple[nn.Module, ...]
    layer_names: tuple[str, ...]
    projections: Projections
    final_norm: nn.Module | None
    final_norm_name: str
    lm_head: nn.Module
    hidden_size: int
    mixers: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def _adds(self) -> list[bool]:
        modules = [
            self.projections[i].module if i in self.projections.layers else None for i in range(len(self.layers))
        ]
        return adds_outputs(self.model, self.layers, modules)

    @property
    def adds_ffn_output(self) -> bool:
        """True where every layer with a projection adds its FFN's output to the residual stream as it is."""
        return all(self._adds[layer] for layer in self.projections.layers)

    def adds_output_of(self, layer: int) -> bool:
        """True where a layer adds its FFN's output to the residual stream as it is, not normalised or scaled.

        Found by running a few tokens; layers of one model need not be alike.
        """
        return self._adds[layer]

    @cached_property
    def continues(self) -> bool:
        """True where the model can go on from fixed keys and values of earlier tokens, found by trying."""
        return continues(self.model, self.layers[-1], trees=self.takes_trees)

    @cached_property
    def replays(self) -> bool:
        """True where upper layers can be run alone, from a hidden state, found by trying."""
        from seqedit.models.partial_run import replays  # which runs an anatomy

        return replays(self)

    @cached_property
    def takes_trees(self) -> bool:
        """True where the model can run sequences that begin alike as one row (`seqedit.forward.prefix_trees`), found
        by trying."""
        return takes_trees(self.model)

    @property
    def last_ffn(self) -> nn.Module | None:
        """The last layer's feed-forward block; None where its parts stand in the layer itself (OPT), or where it
        has none."""
        if len(self.layers) - 1 not in self.projections.layers:
            return None
        name = parent(self.projections[len(self.layers) - 1].name.removeprefix(f"{self.layer_names[-1]}."))
        return self.layers[-1].get_submodule(name) if name else None

    def check_layers(self, layers: Sequence[int]) -> tuple[int, ...]:
        """The layers in increasing order.

        Raises:
            InputError: names a layer that the model does not have, that has nothing to edit, or that is given twice.
        """
        if not layers:
            raise InputError("no layers to edit were given; say which, e.g. --layers 1,2,3")
        for layer in layers:
            self._check_exists(layer)
            if (reason := self.projections.reason(layer)) is not None:
                raise InputError(f"{reason}; layers that can be edited: {ranges(self.projections.layers)}")
        if len(set(layers)) != len(layers):
            raise InputError(f"layers {list(layers)} name one layer twice")
        return tuple(sorted(layers))

    def _check_exists(self, layer: int) -> None:
        if not 0 <= layer < len(self.layers):
            raise InputError(
                f"layer {layer} is out of range: the model has {len(self.layers)} layers, 0 to {len(self.layers) - 1}"
            )

    def nearest_layers(self, layers: Sequence[int]) -> tuple[int, ...]:
        """For each layer the nearest that can be edited, the lower of two; in increasing order, each once."""
        there = self.projections.layers
        return tuple(sorted({min(there, key=lambda i: (abs(i - layer), i)) for layer in layers}))

    def attention_output(self, layer: int) -> Projection:
        """The attention's output projection of a layer, or what it has in its place (a convolution's, say).

        It was seen to write what other tokens have part in. Of a model that was not run: the first block that writes to
        the residual stream, and in it what is registered last, after a query, key or value that may be as wide.

        Raises:
            ModelError: the layer has no other writer than the FFN output projection.
        """
        self._check_exists(layer)
        if layer in self.mixers:
            name = self.mixers[layer]
            return Projection(f"{self.layer_names[layer]}.{name}", dict(linears(self.layers[layer]))[name])
        ffn = self.projections[layer].module if layer in self.projections.layers else None
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
        return self.projections.of(self.check_layers(layers))


def anatomy(model: CausalLM) -> Anatomy:
    """Find the decoder layers, FFN output projections, final norm and LM head of a causal LM.

    Raises:
        ModelError: says which part was not found or is ambiguous.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        raise ModelError(f"{type(model).__name__} has no LM head; load it with AutoModelForCausalLM")
    inner = _unwrapped(model)
    width = residual_width(model) or int(head.weight.shape[-1])
    found = find_blocks(model, inner, width)
    if not found.projections:
        raise ModelError(found.reasons[min(found.reasons)])
    names = tuple(f"{found.name}.{i}" for i in range(len(found.layers)))
    norm_name, norm = _final_norm(inner, found.name, width)
    projections = Projections(found.projections, found.reasons)
    return Anatomy(model, found.layers, names, projections, norm, norm_name, head, width, found.mixers)


def ranges(layers: Sequence[int]) -> str:
    """Numbers in words, runs drawn together: "0 to 2, 5"."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


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


def _final_norm(model: nn.Module, layers_name: str, width: int) -> tuple[str, nn.Module | None]:
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
        return "", None
    name, module = found[0]
    return f"{parent_name}.{name}", module
