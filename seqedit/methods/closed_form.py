"""One batch by the closed form: target values, then layer after layer keys, residual, solve, filter, write."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_keys
from seqedit.keys.walk import KeyWalk, Measured
from seqedit.methods.config import ClosedFormConfig, Spread
from seqedit.methods.interface import Update, Workbench, add_to_weight
from seqedit.methods.one_layer import alone, dense, filter_of, in_sequence
from seqedit.models.anatomy import Anatomy, Projection
from seqedit.solver.evolving_null_space import EvolvingNullSpace
from seqedit.solver.preconditioners import Preconditioner, protect
from seqedit.targets.norms import trust_limits
from seqedit.targets.replay import replay
from seqedit.targets.sites import LayerOutput, Site
from seqedit.targets.split import split_target_values
from seqedit.targets.values import TargetValues
from seqedit.text.lookup import BARE


def spread_divisor(spread: Spread, layers_left: int) -> float:
    """By what the residual is divided when ``layers_left`` layers (this one included) are still to be written."""
    return {"even": float(layers_left), "sqrt": math.sqrt(layers_left)}.get(spread, 1.0)


def closed_form_edit(
    bench: Workbench,
    requests: Sequence[Request],
    config: ClosedFormConfig,
    a: float,
    *,
    site: Callable[[Anatomy, int], Site] = LayerOutput,
    target_values: Tensor | None = None,
    met_at_bare: bool = False,
) -> Update:
    """Compute a batch and leave it written to the model (the caller puts the weights back).

    With spread ``boundary`` (BLUE, arXiv 2502.03748) only the first and the last of the layers are written, each with
    the whole residual of target values that were optimised at it, the last one's after the first was written. With
    ``replay`` (arXiv 2605.00358) target values are optimised at the first layer, a forward pass gives those of the
    others (`seqedit.targets.replay`), and each layer is written with what it is still missing of its own.

    Args:
        bench: Model and what belongs to it.
        requests: n requests.
        config: Settings.
        a: Relaxation of the equality constraint.
        site: Where in the last layer the target values are.
        target_values: (n, d) target values to use instead of the bench's, or of optimising them; the first layer's
            with spread ``replay``, else the last one's.
        met_at_bare: Meet the constraint of a single request at the key of its bare prompt, not at the averaged one that
            the update's direction comes from.

    Returns:
        The update; its layers are in the order of the model's.
    """
    layers = bench.parts.check_layers(config.layers)
    if config.spread == "boundary":
        if target_values is not None or bench.target_values is not None:
            raise InputError(
                "spread 'boundary' optimises target values at two layers, and those that are given are of the last "
                "alone; solve for them with spread even or sqrt"
            )
        first, last = (
            closed_form_edit(bench, requests, replace(config, layers=(layer,), spread="single"), a, site=site)
            for layer in (layers[0], layers[-1])
        )
        return replace(last, layers=(*first.layers, *last.layers))
    replayed = config.spread == "replay"
    modules = [site(bench.parts, layer).value_module() for layer in (layers if replayed else layers[-1:])]
    if target_values is None:
        target_values = bench.target_values
    if target_values is None:
        layer = layers[0] if replayed else layers[-1]
        found = split_target_values(
            bench.ranks,
            bench.model,
            bench.parts,
            bench.tokenizer,
            requests,
            bench.contexts,
            layer,
            config,
            site=site,
            merge_same_subject=config.merge_same_subject,
            max_tokens=bench.max_tokens,
            limits=_limits(bench, requests, config, a, layer, modules[0], 1 if replayed else len(layers)),
            norm=_norm(bench, config, layer),
        )
    else:
        nothing = torch.empty(0)
        found = TargetValues(target_values, nothing, (), ())
    targets = [found.values]
    if replayed:
        targets = replay(bench.model, bench.tokenizer, requests, modules, found.values, max_tokens=bench.max_tokens)
    walk = _walk(bench, requests, config, modules[-1])
    updates = []
    for index, layer in enumerate(layers):
        projection = bench.parts.projections[layer]
        # Measured again after each layer is written: the layers below have moved keys and outputs.
        own = index if replayed else -1
        measured = walk.at(layer, modules[own])
        keys, now = measured.keys, measured.outputs
        residual = (targets[own].to(now.device).double() - now).to(keys.device)
        share = residual.T / spread_divisor(config.spread, len(layers) - index)
        base = bench.precondition(projection)
        left = (base.left, base.dimension) if isinstance(base, EvolvingNullSpace) else None
        precondition = _precondition(bench, projection, measured)
        applied = filter_of(bench, projection, keys, config)
        inside = config.solved_inside
        if config.sequence == "joint":
            held = bench.held(projection)
            update = in_sequence(projection, precondition, held, keys, share, a, applied=applied, inside=inside)
        else:
            bare = _bare_keys(bench, requests, layer) if met_at_bare else None
            update = alone(projection, precondition, keys, share, a, applied=applied, inside=inside, bare=bare)
        if left is not None and update.solved is not None:
            update = replace(update, solved=replace(update.solved, left=left))
        updates.append(update)
        add_to_weight(projection, projection.matrix().clone(), dense(update.delta))
    return Update(tuple(updates), found.values, found.losses, found.updates, found if found.losses else None)


def _walk(bench: Workbench, requests: Sequence[Request], config: ClosedFormConfig, module: nn.Module) -> KeyWalk:
    return KeyWalk(
        bench.model,
        bench.parts,
        bench.tokenizer,
        requests,
        bench.contexts,
        module,
        following=config.protect_following,
        max_tokens=bench.max_tokens,
    )


def _precondition(bench: Workbench, projection: Projection, measured: Measured) -> Preconditioner:
    """C^-1 of a layer, with the keys of the tokens after the subject where they were measured."""
    found = bench.precondition(projection)
    return found if measured.following is None else protect(found, measured.following.T)


def _limits(
    bench: Workbench, requests: Sequence[Request], config: ClosedFormConfig, a: float, layer: int, module: nn.Module,
    layers: int,
) -> list[float] | None:  # fmt: skip
    """Bounds on the perturbations by the trust region; None without one.

    Of several layers it is the last that is looked at, before any of them is written: with its share of the residual.

    Args:
        bench: The model.
        requests: n requests.
        config: Settings.
        a: Relaxation.
        layer: Where target values are optimised.
        module: Whose outputs they are.
        layers: How many layers share the residual.
    """
    if config.trust_region is None:
        return None
    projection = bench.parts.projections[layer]
    measured = _walk(bench, requests, config, module).at(layer)
    q = (measured.keys.T * _precondition(bench, projection, measured)(measured.keys.T)).sum(0)
    bound = config.trust_region * spread_divisor(config.spread, layers)
    return trust_limits(q, a, bound, bench.preserved(projection))


def _norm(bench: Workbench, config: ClosedFormConfig, layer: int) -> float | None:
    """The norm that target values at a layer are rescaled to."""
    if config.target_norm == "free":
        return None
    if config.target_norm != "pilot":
        return config.target_norm
    if layer not in bench.anchors:
        raise InputError(
            "target_norm 'pilot' is measured on the unedited model by the session; here give the norm as a number"
        )
    return bench.anchors[layer]


def _bare_keys(bench: Workbench, requests: Sequence[Request], layer: int) -> Tensor:
    """(1, d_in) key of the bare prompt of a single request, on the model as it is now."""
    if len(requests) != 1:
        raise ValueError(f"only a single request can meet its constraint at the bare prompt's key, got {len(requests)}")
    found = measure_keys(
        bench.model, bench.parts, bench.tokenizer, requests, [[BARE]], [layer], max_tokens=bench.max_tokens
    )
    return found[layer]
