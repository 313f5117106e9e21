"""One batch by the closed form: target values, then layer after layer keys, residual, solve, write."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_keys
from seqedit.keys.walk import KeyWalk
from seqedit.methods.config import ClosedFormConfig, Spread
from seqedit.methods.interface import LayerUpdate, Solved, Update, Workbench, add_to_weight
from seqedit.models.anatomy import Anatomy, Projection
from seqedit.solver.closed_form import solve
from seqedit.solver.evolving_null_space import EvolvingNullSpace
from seqedit.solver.preconditioners import Preconditioner, protect
from seqedit.solver.sequence import Held, Undone, solve_in_sequence, undone
from seqedit.targets.sites import LayerOutput, Site
from seqedit.targets.split import split_target_values
from seqedit.targets.values import TargetValues
from seqedit.text.lookup import BARE


def spread_divisor(spread: Spread, layers_left: int) -> float:
    """By what the residual is divided when ``layers_left`` layers (this one included) are still to be written."""
    return {"single": 1.0, "even": float(layers_left), "sqrt": math.sqrt(layers_left), "boundary": 1.0}[spread]


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
    the whole residual of target values that were optimised at it, the last one's after the first was written.

    Args:
        bench: Model and what belongs to it.
        requests: n requests.
        config: Settings.
        a: Relaxation of the equality constraint.
        site: Where in the last layer the target values are.
        target_values: (n, d) target values to use instead of the bench's, or of optimising them.
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
    place = site(bench.parts, layers[-1])
    if target_values is None:
        target_values = bench.target_values
    if target_values is None:
        found = split_target_values(
            bench.ranks,
            bench.model,
            bench.parts,
            bench.tokenizer,
            requests,
            bench.contexts,
            layers[-1],
            config,
            site=site,
            merge_same_subject=config.merge_same_subject,
            max_tokens=bench.max_tokens,
        )
    else:
        nothing = torch.empty(0)
        found = TargetValues(target_values, nothing, (), ())
    walk = KeyWalk(
        bench.model,
        bench.parts,
        bench.tokenizer,
        requests,
        bench.contexts,
        place.value_module(),
        following=config.protect_following,
        max_tokens=bench.max_tokens,
    )
    updates = []
    for index, layer in enumerate(layers):
        projection = bench.parts.projections[layer]
        # Measured again after each layer is written: the layers below have moved keys and outputs.
        measured = walk.at(layer)
        keys, now = measured.keys, measured.outputs
        residual = (found.values.to(now.device).double() - now).to(keys.device)
        share = residual.T / spread_divisor(config.spread, len(layers) - index)
        precondition = bench.precondition(projection)
        left = (precondition.left, precondition.dimension) if isinstance(precondition, EvolvingNullSpace) else None
        if measured.following is not None:
            precondition = protect(precondition, measured.following.T)
        if config.sequence == "joint":
            updates.append(_in_sequence(projection, precondition, bench.held(projection), keys, share, a))
        else:
            B, A = solve(precondition, keys.T, share, a)
            if met_at_bare:
                B = B * (A @ keys.T) / (A @ _bare_keys(bench, requests, layer).T)
            solved = replace(_solved(B, A, keys.T, share, a), left=left)
            updates.append(LayerUpdate(projection, (B, A), keys, solved))
        B, A = updates[-1].delta
        add_to_weight(projection, projection.matrix().clone(), B @ A)
    return Update(tuple(updates), found.values, found.losses, found.updates, found if found.losses else None)


def _in_sequence(
    projection: Projection, precondition: Preconditioner, held: Held | None, keys: Tensor, share: Tensor, a: float
) -> LayerUpdate:
    """A layer's update in a joint sequence (`seqedit.solver.sequence`): the state mended, then the batch.

    Args:
        projection: The layer.
        precondition: C^-1, the keys of the facts in force protected in it.
        held: The facts in force and what was written; None for nothing yet.
        keys: (n, d_in) the batch's keys.
        share: (d_out, n) its residuals on the state as it is.
        a: Relaxation.
    """
    # Rounded as they will be stored: what later batches read is then what was solved for.
    keys = keys.float().double()
    written = held.at(keys.T) if held is not None else torch.zeros_like(share)
    residuals = (share + written).float().double()
    share = residuals - written
    if held is None:
        left = Undone(share[:, :0], keys[:0], 0.0)
    else:
        left = undone(precondition, held, a)
    asked = share + left.at(keys.T)
    B, A = solve_in_sequence(precondition, left, keys.T, share, a)
    delta = torch.cat([-left.B, B], dim=1), torch.cat([left.A, A])
    return LayerUpdate(projection, delta, keys, _solved(B, A, keys.T, asked, a), residuals.T)


def _solved(B: Tensor, A: Tensor, K: Tensor, R: Tensor, a: float) -> Solved:
    """What the factors write of R (d_out, n) at the keys K (d_in, n); D = A K, as A is (C^-1 K)^T."""
    D = A @ K
    square = (R * R).sum(0).clamp_min(torch.finfo(R.dtype).tiny)
    written = ((B @ D) * R).sum(0) / square
    eigenvalues = torch.linalg.eigvalsh((D + D.T) / 2 + a * torch.eye(len(D), dtype=D.dtype, device=D.device))
    return Solved(tuple(written.tolist()), float(eigenvalues[-1] / eigenvalues[0].clamp_min(eigenvalues[-1] * 1e-16)))


def _bare_keys(bench: Workbench, requests: Sequence[Request], layer: int) -> Tensor:
    """(1, d_in) key of the bare prompt of a single request, on the model as it is now."""
    if len(requests) != 1:
        raise ValueError(f"only a single request can meet its constraint at the bare prompt's key, got {len(requests)}")
    found = measure_keys(
        bench.model, bench.parts, bench.tokenizer, requests, [[BARE]], [layer], max_tokens=bench.max_tokens
    )
    return found[layer]
