"""What hidden norms, key norms and C0 say of an edit before any target value is optimised.

Two numbers decide whether an edit can work at all, and neither needs an optimisation:

- Adam moves every component by at most the learning rate in a step, so in T steps a target value gets no further than
  about ``rate T sqrt(d)``. The rate that lets it go `REACH` times the hidden norm is ``REACH |h| / (T sqrt(d))``.
- Of the residual of a fact alone the closed form writes the share ``s = q / (q + a weight)`` with ``q = k^T C0^-1 k``.
  A weight for a share that is wanted is ``q (1 - s) / (a s)``, q taken at its median over the facts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from seqedit.editing.diagnosis import REACH
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_keys, measure_outputs
from seqedit.methods.config import TargetPlace
from seqedit.models.anatomy import Anatomy
from seqedit.solver.preconditioners import Preconditioner

DEPTHS = (1 / 6, 0.3, 0.45)
"""Where layers worth trying are, as a share of the model's depth."""


@dataclass(frozen=True)
class LayerFigures:
    """What is measured of a layer.

    Attributes:
        layer: Its number.
        hidden_norm: Median norm of its output at the lookup token.
        key_norm: Median norm of the keys.
        key_weight: Median of k^T C0^-1 k.
        learning_rate: The guess.
    """

    layer: int
    hidden_norm: float
    key_norm: float
    key_weight: float
    learning_rate: float

    def weight_for(self, share: float, a: float) -> float:
        """The second-moment weight that writes a share (0 to 1) of a lone fact's residual, to two digits."""
        return two_digits(self.key_weight * (1 - share) / (a * share))

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON types."""
        return asdict(self)


def candidate_layers(count: int) -> tuple[int, ...]:
    """Layers worth trying in a model with so many, from low to high."""
    return tuple(sorted({min(count - 1, max(0, round(depth * count))) for depth in DEPTHS}))


def window(layer: int, width: int = 3) -> tuple[int, ...]:
    """The layers that end at one."""
    return tuple(range(max(0, layer - width + 1), layer + 1))


def layer_figures(
    model: Any, parts: Anatomy, tokenizer: Any, requests: Sequence[Request], contexts: Sequence[Sequence[str]],
    layer: int, precondition: Preconditioner, *, steps: int, weight: float = 1.0, place: TargetPlace = "layer output",
) -> LayerFigures:  # fmt: skip
    """Norms of a layer at the requests' lookup tokens, and the guess that follows.

    Args:
        model, parts, tokenizer: The unedited model.
        requests: Facts.
        contexts: Groups of context templates.
        layer: The layer.
        precondition: C^-1 of it, with some weight.
        steps: Optimisation steps.
        weight: What C was made with in the place of the weight that is looked for.
        place: Of which output the target values are, whose norm the rate goes by.
    """
    projection = parts.projections[layer]
    keys = measure_keys(model, parts, tokenizer, requests, contexts, [layer])[layer]
    module = projection.module if place == "ffn output" else parts.layers[layer]
    hidden = measure_outputs(model, tokenizer, requests, module)
    solved = precondition(keys.T)
    norm = float(hidden.norm(dim=1).median())
    rate = REACH * norm / (max(1, steps - 1) * math.sqrt(hidden.shape[1]))
    return LayerFigures(
        layer, norm, float(keys.norm(dim=1).median()),
        weight * float(torch.median((keys.T * solved.to(keys.device)).sum(0))), two_digits(rate),
    )  # fmt: skip


def two_digits(value: float) -> float:
    """A setting that is proposed, no finer than it is known."""
    return float(f"{value:.2g}")
