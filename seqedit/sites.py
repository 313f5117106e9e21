"""Where in layer L the target-value optimisation adds its perturbation, and which value comes out of it.

MEMIT, ROME and EMMET add one perturbation to the layer's output. PMET (arXiv 2308.08742, section 3.2) adds two, to the
attention's and to the FFN's output, optimises them together and keeps the FFN's: what attention can do it will do by
itself, and need not be written into the FFN's weights.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seqedit.anatomy import Anatomy
from seqedit.replay import Cut, logits_above, run_to_layer
from seqedit.tracing import StopForward, hidden_of, hooks


class Site(Protocol):
    """A place to perturb.

    Attributes:
        perturbations: How many vectors p each request has; the last one's value is the target value.
    """

    perturbations: int

    def cut(self, model: Any, input_ids: Tensor, attention_mask: Tensor) -> Cut:
        """The batch, run up to where the perturbation begins to matter."""

    def initial(self, model: Any, cut: Cut, rows: Tensor, lookup: Tensor) -> Tensor:
        """Unperturbed values at (k,) rows and their lookup positions: (k, p, d)."""

    def logits(self, model: Any, cut: Cut, lookup: Tensor, delta: Tensor | None, positions: Tensor) -> Tensor:
        """Logits (rows, m, vocabulary) with (rows, p, d) perturbations, or without any, at the lookup positions."""

    def value_module(self) -> nn.Module:
        """The module whose output at the lookup token is to become the target value."""


class LayerOutput:
    """The output of layer L (MEMIT's ``layer_module_tmp``)."""

    perturbations = 1

    def __init__(self, parts: Anatomy, layer: int) -> None:
        self.parts, self.layer = parts, layer

    def cut(self, model: Any, input_ids: Tensor, attention_mask: Tensor) -> Cut:
        """Run up to layer L; everything below never runs again."""
        return run_to_layer(model, self.parts, self.layer, input_ids, attention_mask)

    def initial(self, model: Any, cut: Cut, rows: Tensor, lookup: Tensor) -> Tensor:
        """Hidden states after layer L."""
        return cut.hidden[rows, lookup[rows]].unsqueeze(1)

    def logits(self, model: Any, cut: Cut, lookup: Tensor, delta: Tensor | None, positions: Tensor) -> Tensor:
        """Layers above L on the perturbed hidden states."""
        hidden = cut.hidden if delta is None else _added(cut.hidden, lookup, delta[:, 0])
        return logits_above(model, self.parts, cut, hidden, positions)

    def value_module(self) -> nn.Module:
        """Layer L itself."""
        return self.parts.layers[self.layer]


class Sublayers:
    """The outputs of attention and FFN of layer L (PMET); the FFN's is the target value."""

    perturbations = 2

    def __init__(self, parts: Anatomy, layer: int) -> None:
        self.parts, self.layer = parts, layer
        self.modules = (parts.attention_output(layer).module, parts.projections[layer].module)

    def cut(self, model: Any, input_ids: Tensor, attention_mask: Tensor) -> Cut:
        """Run up to the layer below L: layer L itself depends on the attention's perturbation."""
        return run_to_layer(model, self.parts, self.layer - 1, input_ids, attention_mask)

    def initial(self, model: Any, cut: Cut, rows: Tensor, lookup: Tensor) -> Tensor:
        """Outputs of both sublayers."""
        seen: dict[nn.Module, Tensor] = {}

        def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen[module] = hidden_of(output).detach()
            if len(seen) == len(self.modules):
                raise StopForward

        none = torch.zeros(cut.input_ids.shape[0], 1, dtype=torch.long, device=cut.input_ids.device)
        with torch.no_grad(), hooks(post=dict.fromkeys(self.modules, capture)), suppress(StopForward):
            logits_above(model, self.parts, cut, cut.hidden, none)
        return torch.stack([seen[module][rows, lookup[rows]] for module in self.modules], dim=1)

    def logits(self, model: Any, cut: Cut, lookup: Tensor, delta: Tensor | None, positions: Tensor) -> Tensor:
        """Layers from L on with both sublayers' outputs perturbed."""

        def add(number: int) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
                assert delta is not None
                changed = _added(hidden_of(output), lookup, delta[:, number])
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            return hook

        post = {} if delta is None else {module: add(number) for number, module in enumerate(self.modules)}
        with hooks(post=post):
            return logits_above(model, self.parts, cut, cut.hidden, positions)

    def value_module(self) -> nn.Module:
        """The FFN output projection of layer L."""
        return self.modules[-1]


def _added(states: Tensor, lookup: Tensor, delta: Tensor) -> Tensor:
    """(rows, t, d) states with (rows, d) added at each row's lookup position."""
    rows = torch.arange(states.shape[0], device=states.device)
    at = lookup.to(states.device)
    return states.index_put((rows, at), states[rows, at] + delta.to(states))
