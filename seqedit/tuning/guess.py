"""The first guess of a search: what a layer's figures give, and the shares whose weights are tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqedit.editing.layer_figures import DEPTHS, LayerFigures, candidate_layers, layer_figures, window
from seqedit.facts.requests import Request
from seqedit.models.anatomy import Anatomy
from seqedit.solver.factorizations import Factorizations

__all__ = ["DEPTHS", "SHARES", "LayerFigures", "candidate_layers", "measure_layer", "window"]

SHARES = (0.7, 0.9, 0.97, 0.995)
"""Shares of a lone fact's residual that the weights to be tried write."""


def measure_layer(
    model: Any, parts: Anatomy, tokenizer: Any, requests: Sequence[Request], contexts: Sequence[Sequence[str]],
    layer: int, factors: Factorizations, *, steps: int, shrinkage: float,
) -> LayerFigures:  # fmt: skip
    """Norms of a layer at the requests' lookup tokens, and the guess that follows.

    Args:
        model, parts, tokenizer: The unedited model.
        requests: Calibration facts.
        contexts: Groups of context templates.
        layer: The layer.
        factors: Its second moments, factored.
        steps: Optimisation steps.
        shrinkage: Of C0.
    """
    inverse = factors.cholesky(parts.projections[layer], weight=1.0, shrinkage=shrinkage)
    return layer_figures(model, parts, tokenizer, requests, contexts, layer, inverse, steps=steps)
