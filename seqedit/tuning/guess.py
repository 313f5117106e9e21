"""The first guess of a search: what a layer's figures give, the settings tried there, and where to look next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from seqedit.editing.layer_figures import DEPTHS, LayerFigures, candidate_layers, layer_figures, window
from seqedit.facts.requests import Request
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig
from seqedit.models.anatomy import Anatomy
from seqedit.solver.factorizations import Factorizations
from seqedit.tuning.choice import NEAR, Trial

__all__ = ["DEPTHS", "SHARES", "LayerFigures", "candidate_layers", "grid", "measure_layer", "next_layer", "window_of"]

SHARES = (0.7, 0.9, 0.97, 0.995)
"""Shares of a lone fact's residual that the weights to be tried write."""


def measure_layer(
    model: Any, parts: Anatomy, tokenizer: Any, requests: Sequence[Request], contexts: Sequence[Sequence[str]],
    layer: int, factors: Factorizations, *, method: str, steps: int,
) -> LayerFigures:  # fmt: skip
    """Norms of a layer at the requests' lookup tokens, and the guess that follows.

    Args:
        model, parts, tokenizer: The unedited model.
        requests: Calibration facts.
        contexts: Groups of context templates.
        layer: The layer.
        factors: Its second moments, factored.
        method: A closed form, whose system is looked at.
        steps: Optimisation steps.
    """
    chosen = get_method(method)
    config = chosen.config.from_dict({"layers": [layer]})
    assert isinstance(config, ClosedFormConfig)
    assert chosen.precondition is not None  # a closed form has one
    weight = 1.0 if config.written_by is None else float(getattr(config, config.written_by))
    return layer_figures(
        model, parts, tokenizer, requests, contexts, layer,
        chosen.precondition(factors, parts.projections[layer], config), steps=steps, weight=weight,
        place=config.target_place,
    )  # fmt: skip


def window_of(parts: Anatomy, layer: int) -> tuple[int, ...]:
    """The layers that end at one, without those that cannot be edited."""
    return tuple(one for one in window(layer) if one in parts.projections.layers)


def grid(found: LayerFigures, method: str, steps: int, there: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """The settings that are tried at a layer: four written shares, at the layer alone and spread over three.

    A method whose weight cancels (ROME) has one share; one that is published for a single layer has no spread.

    Args:
        found: What was measured of the layer.
        method: A closed form.
        steps: Optimisation steps.
        there: The layers that can be edited; None for all.
    """
    config = get_method(method).config
    assert issubclass(config, ClosedFormConfig)
    default: dict[str, Any] = {f.name: f.default for f in fields(config)}
    spread, a = default["spread"], default["a"]
    spread_over = tuple(i for i in window(found.layer) if there is None or i in there)
    places = [(found.layer,)] if spread == "single" else [(found.layer,), spread_over]
    shares: list[dict[str, Any]] = [{}]
    if config.written_by is not None:
        # a = 0 has no weight by the formula; EMMET's default is the published 0.1.
        shares = [{config.written_by: found.weight_for(share, a)} for share in SHARES]
    return [
        {
            "layers": list(chosen), "spread": spread if len(chosen) > 1 else "single",
            "learning_rate": found.learning_rate, "steps": steps, **weight, "protect_earlier": True,
        }
        for weight in shares for chosen in dict.fromkeys(places)
    ]  # fmt: skip


def next_layer(trials: Sequence[Trial], unedited: float | None, count: int) -> int | None:
    """Where to look next when the neighbours are lost at every layer tried; None where there is no need or no trend.

    If no trial keeps NS within `NEAR` points of the unedited model's, and the layer that keeps most of it is the lowest
    (highest) tried, the layer half-way to the first (last) one is next: the trend points there.

    Args:
        trials: Of the layers tried so far.
        unedited: NS of the unedited model on the same facts, percent.
        count: Layers of the model.
    """
    if unedited is None:
        return None
    kept: Mapping[int, float] = {}
    for trial in trials:
        last, ns = trial.settings["layers"][-1], trial.scores["NS"]
        if ns is not None:
            kept = {**kept, last: max(ns, kept.get(last, 0.0))}
    if not kept or max(kept.values()) >= unedited - NEAR:
        return None
    best = max(kept, key=lambda layer: (kept[layer], -layer))
    if best == min(kept):
        lower = best // 2
        return lower if lower < best else None
    if best == max(kept):
        higher = (best + count) // 2
        return higher if higher > best and higher < count else None
    return None
