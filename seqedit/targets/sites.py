"""Where in layer L the target-value optimisation adds its perturbation, and which value comes out of it.

MEMIT, ROME and EMMET add one perturbation to the layer's output. PMET (arXiv 2308.08742, section 3.2) adds two, to the
attention's and to the FFN's output, optimises them together and keeps the FFN's: what attention can do it will do by
itself, and need not be written into the FFN's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seqedit.forward.access import input_device
from seqedit.forward.batching import pad_right
from seqedit.forward.hooks import StopForward, by_token, hidden_of, hooks
from seqedit.forward.protocols import CausalLM
from seqedit.forward.trials import fits_window
from seqedit.models.anatomy import Anatomy
from seqedit.models.partial_run import Cut, logits_above, run_from, run_to_layer


class Site(Protocol):
    """A place to perturb.

    Attributes:
        perturbations: How many vectors p each request has; the last one's value is the target value.
    """

    perturbations: int

    def cut(self, sequences: Sequence[Sequence[int]], lookup: Sequence[int]) -> Cut:
        """Rows of token ids, run up to where the perturbation begins to matter.

        Where the model can do it the cut begins at each row's lookup token, and has a past.
        """

    def initial(self, model: CausalLM, cut: Cut, rows: Tensor, lookup: Tensor) -> Tensor:
        """Unperturbed values at (k,) rows and the (rows,) lookup columns of the cut: (k, p, d)."""

    def logits(
        self, model: CausalLM, cut: Cut, lookup: Tensor, delta: Tensor | None, rows: Tensor, columns: Tensor
    ) -> Tensor:
        """Logits (k, vocabulary) at (k,) rows and columns, with (rows, p, d) perturbations or without any."""

    def value_module(self) -> nn.Module:
        """The module whose output at the lookup token is to become the target value."""


class ModuleOutputs:
    """Outputs of some modules of layer L, perturbed together; the last one's is the target value.

    Args:
        parts: The model's anatomy.
        below: Last layer that no perturbation reaches; it and everything under it never run again. Layer L itself
            may be named: its output is then handed out again, for a perturbation to be added to it.
        modules: What is perturbed, in order.
    """

    def __init__(self, parts: Anatomy, below: int, modules: Sequence[nn.Module]) -> None:
        self.parts, self.below, self.modules = parts, below, tuple(modules)
        self.perturbations = len(self.modules)

    def cut(self, sequences: Sequence[Sequence[int]], lookup: Sequence[int]) -> Cut:
        """Run up to the layer that no perturbation reaches."""
        below = self.below if self.parts.replays else -1
        width = max(lookup) + max(len(row) - at for row, at in zip(sequences, lookup, strict=True))
        if any(lookup) and self.parts.continues and fits_window(self.parts.model, width):
            return run_from(self.parts, below, sequences, lookup)
        ids, mask = pad_right(sequences, input_device(self.parts.model))
        return run_to_layer(self.parts, below, ids, mask)

    def initial(self, model: CausalLM, cut: Cut, rows: Tensor, lookup: Tensor) -> Tensor:
        """Outputs of the modules."""
        seen: dict[nn.Module, Tensor] = {}

        def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen[module] = by_token(hidden_of(output).detach(), cut.input_ids)
            if len(seen) == len(self.modules):
                raise StopForward

        none = torch.zeros(0, dtype=torch.long, device=cut.input_ids.device)
        with torch.no_grad(), hooks(post=dict.fromkeys(self.modules, capture)), suppress(StopForward):
            logits_above(model, self.parts, cut, cut.hidden, none, none)
        return torch.stack([seen[module][rows, lookup[rows]] for module in self.modules], dim=1)

    def logits(
        self, model: CausalLM, cut: Cut, lookup: Tensor, delta: Tensor | None, rows: Tensor, columns: Tensor
    ) -> Tensor:
        """The layers above the cut with all modules' outputs perturbed."""

        def add(number: int) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
                assert delta is not None
                states = hidden_of(output)
                changed = _added(by_token(states, cut.input_ids), lookup, delta[:, number]).view_as(states)
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            return hook

        post = {} if delta is None else {module: add(number) for number, module in enumerate(self.modules)}
        with hooks(post=post):
            # A perturbation inside the last layer looks for all of its tokens.
            prune = self.below < len(self.parts.layers) - 2
            return logits_above(model, self.parts, cut, cut.hidden, rows, columns, prune=prune)

    def value_module(self) -> nn.Module:
        """The last of the modules."""
        return self.modules[-1]


class LayerOutput(ModuleOutputs):
    """The output of layer L (MEMIT's ``layer_module_tmp``).

    Where a layer normalises or scales its FFN's output before adding it (Gemma 2, Granite), a residual R written
    into the projection does not move the layer's output by R. There it is the FFN's output that is perturbed and
    becomes the target value, so that the constraint W k = z still says what was optimised.
    """

    def __init__(self, parts: Anatomy, layer: int) -> None:
        if parts.adds_output_of(layer):
            super().__init__(parts, layer, (parts.layers[layer],))
        else:
            super().__init__(parts, layer - 1, (parts.projections[layer].module,))


class Sublayers(ModuleOutputs):
    """The outputs of attention and FFN of layer L (PMET); the FFN's is the target value."""

    def __init__(self, parts: Anatomy, layer: int) -> None:
        super().__init__(parts, layer - 1, (parts.attention_output(layer).module, parts.projections[layer].module))


def _added(states: Tensor, lookup: Tensor, delta: Tensor) -> Tensor:
    """(rows, t, d) states with (rows, d) added at each row's lookup position."""
    rows = torch.arange(states.shape[0], device=states.device)
    at = lookup.to(states.device)
    return states.index_put((rows, at), states[rows, at] + delta.to(states))
