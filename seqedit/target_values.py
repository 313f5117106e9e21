"""Target values: the hidden states that make the model answer as requested, found by gradient descent.

For each request a perturbation delta is added to the hidden state after the last edited layer L at the lookup
token, in every context, and the loss

    mean over contexts of NLL(target_new) / len(target_new)
    + kl_factor * KL(edited || initial) at the lookup token of "{subject} is a"
    + v_weight_decay * |delta| / |init|^2

is minimised with Adam (ROME, arXiv 2202.05262 eq. 4; MEMIT, arXiv 2210.07229 eq. 16; details as in their public
code). The target value is z = init + delta. Requests do not interact, so all of a batch are optimised at once,
re-running only the layers above L, and a request that has converged leaves the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqedit.anatomy import Anatomy
from seqedit.config import TargetValueConfig
from seqedit.errors import NumericsError
from seqedit.lookup import BARE, Prompt, tokenize_kl_prompt, tokenize_request
from seqedit.progress import Bar, progress_bar
from seqedit.requests import Request
from seqedit.sites import LayerOutput, Site
from seqedit.target_batch import Losses, TargetBatch, unit_means
from seqedit.tracing import inference_state

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # Adam's usual constants, as in the public implementations


@dataclass(frozen=True, eq=False)
class TargetValues:
    """Result of the optimisation of n requests.

    Attributes:
        values: (n, d) target values z.
        initial: (n, d) hidden states of the bare prompts before the edit.
        losses: Last total loss of each request.
        updates: How many updates each request took.
    """

    values: Tensor
    initial: Tensor
    losses: tuple[float, ...]
    updates: tuple[int, ...]


def optimise_target_values(
    model: Any,
    parts: Anatomy,
    tokenizer: Any,
    requests: Sequence[Request],
    contexts: Sequence[Sequence[str]],
    layer: int,
    config: TargetValueConfig,
    *,
    site: Site | None = None,
    merge_same_subject: bool = False,
    max_tokens: int = 8192,
) -> TargetValues:
    """Target values of some requests at one layer.

    Args:
        model: The causal LM in its current state.
        parts: Its anatomy.
        tokenizer: Its fast tokenizer.
        requests: n requests.
        contexts: Groups of context templates; every template counts the same in the loss.
        layer: The last edited layer L.
        config: Settings of the optimisation.
        site: Where in the layer to perturb; its output by default.
        merge_same_subject: Find one value for all requests of a subject: their keys are almost the same, and two
            values for one key can only be met half-way (MEMIT-Merge, arXiv 2502.07322).
        max_tokens: Padded tokens held at once; more requests are done in several groups.

    Raises:
        NumericsError: if a loss is not finite; names the request.
    """
    (layer,) = parts.check_layers([layer])
    place = site or LayerOutput(parts, layer)
    flat = [template for group in contexts for template in group]
    # The bare prompt comes first: the hidden state there is the reference for decay and clamping.
    flat.sort(key=lambda template: template != BARE)
    prompts = [
        [*(tokenize_request(tokenizer, r, c, with_target=True) for c in flat), tokenize_kl_prompt(tokenizer, r)]
        for r in requests
    ]
    results: list[tuple[int, Tensor, Tensor, float, int]] = []
    with inference_state(model), progress_bar("target values", total=len(requests) * config.steps) as bar:
        for group in _groups(prompts, _units(requests, merge_same_subject), max_tokens):
            members = [i for unit in group for i in unit]
            batch = TargetBatch.build(model, place, [prompts[i] for i in members])
            names = [", ".join(f"{i} (subject {requests[i].subject!r})" for i in unit) for unit in group]
            unit_of = torch.tensor([u for u, unit in enumerate(group) for _ in unit])
            found = _optimise(model, batch, unit_of, config, names, bar)
            results += [(i, *found[u]) for u, unit in enumerate(group) for i in unit]
    results.sort(key=lambda item: item[0])
    initial = torch.stack([item[1] for item in results])
    delta = torch.stack([item[2] for item in results])
    return TargetValues(
        initial + delta, initial, tuple(item[3] for item in results), tuple(item[4] for item in results)
    )


def _units(requests: Sequence[Request], merge: bool) -> list[list[int]]:
    """The requests that share a target value: each for itself, or all of a subject."""
    if not merge:
        return [[i] for i in range(len(requests))]
    units: dict[str, list[int]] = {}
    for i, request in enumerate(requests):
        units.setdefault(request.subject, []).append(i)
    return list(units.values())


def _groups(prompts: Sequence[Sequence[Prompt]], units: Sequence[list[int]], max_tokens: int) -> list[list[list[int]]]:
    """Units in groups of similar length that fit ``max_tokens`` when padded."""
    longest = [max(len(p.ids) for i in unit for p in prompts[i]) for unit in units]
    groups: list[list[list[int]]] = [[]]
    rows = 0
    for u in sorted(range(len(units)), key=lambda u: (longest[u], units[u])):
        more = sum(len(prompts[i]) for i in units[u])
        if groups[-1] and (rows + more) * longest[u] > max_tokens:
            groups.append([])
            rows = 0
        groups[-1].append(units[u])
        rows += more
    return groups


def _optimise(
    model: Any, batch: TargetBatch, unit_of: Tensor, config: TargetValueConfig, names: Sequence[str], bar: Bar
) -> list[tuple[Tensor, Tensor, float, int]]:
    """(init, delta, last loss, updates) of each unit of a group; ``unit_of`` (requests,) says whose is whose."""
    each = batch.initial(model)
    unit_of = unit_of.to(each.device)
    initial = unit_means(each, unit_of)
    delta = torch.zeros_like(initial)
    units = delta.shape[0]
    first, second = torch.zeros_like(delta), torch.zeros_like(delta)
    limit = config.clamp_norm_factor * initial.norm(dim=2, keepdim=True)
    active = torch.arange(units, device=delta.device)
    nll_factor = torch.ones(units, device=delta.device)
    losses, updates = [float("nan")] * units, [0] * units
    for step in range(config.steps):
        current = delta[active].requires_grad_(True)
        logits = batch.logits(model, current[unit_of])
        found = batch.losses(logits, current[unit_of], initial[active][unit_of], config, nll_factor[active][unit_of])
        found = found.of_units(unit_of)
        values = found.total.detach().tolist()
        for index, value in zip(active.tolist(), values, strict=True):
            if not math.isfinite(value):
                raise NumericsError(f"the loss of request {names[index]} is not finite; lower learning_rate")
            losses[index] = value
        bar.advance(len(values))
        if step == config.steps - 1:
            break  # as published: the last loss is only looked at
        open_ = ~_done(found, config)
        if not bool(open_.any()):
            break
        if config.argmax_nll_factor != 1.0:
            nll_factor[active] = torch.where(found.argmax, config.argmax_nll_factor, 1.0)
        # The decay |delta| has no gradient at 0; torch's norm gives 0 there, as the public code relies on.
        (gradient,) = torch.autograd.grad(found.total.sum(), current)
        if not bool(open_.all()):
            keep = open_.nonzero().squeeze(1)
            batch, active, gradient = batch.select(open_[unit_of].nonzero().squeeze(1)), active[keep], gradient[keep]
            unit_of = (open_.cumsum(0) - 1)[unit_of[open_[unit_of]]]
        first[active] = _BETA1 * first[active] + (1 - _BETA1) * gradient
        second[active] = _BETA2 * second[active] + (1 - _BETA2) * gradient**2
        mean = first[active] / (1 - _BETA1 ** (step + 1))
        variance = second[active] / (1 - _BETA2 ** (step + 1))
        moved = delta[active] - config.learning_rate * mean / (variance.sqrt() + _EPS)
        norm = moved.norm(dim=2, keepdim=True)
        delta[active] = torch.where(norm > limit[active], moved * limit[active] / norm, moved)
        for index in active.tolist():
            updates[index] += 1
    return [(initial[j, -1], delta[j, -1], losses[j], updates[j]) for j in range(len(names))]


def _done(found: Losses, config: TargetValueConfig) -> Tensor:
    """(requests,) which requests have converged."""
    done = found.total.detach() < config.stop_below
    if config.stop_at_argmax:
        settled = found.kl <= config.argmax_kl if config.argmax_kl is not None else torch.ones_like(done)
        done = done | (found.argmax & settled)
    return done
