"""Target values: the hidden states that make the model answer as requested, found by gradient descent.

For each request a perturbation delta is added to the hidden state after the last edited layer L at the lookup
token, in every context, and the loss

    mean over contexts of NLL(target_new) / len(target_new)
    + kl_factor * KL(edited || initial) at the lookup token of "{subject} is a"
    + v_weight_decay * |delta| / |init|^2

is minimised with Adam, |delta| being kept within clamp_norm_factor * |init| (ROME, arXiv 2202.05262 eq. 4; MEMIT, arXiv
2210.07229 eq. 16; details as in their public code), and what more is asked of norms (`seqedit.targets.norms`). The
target value is z = init + delta. For ROME |init| is the norm of the FFN's output, to which its public code adds delta
(``mlp_module_tmp``); it is far smaller than the hidden state's. Where a layer adds that output as it is,
delta does the same at either place, so only the norm differs.

Requests do not interact, so many are optimised at once, and what cannot change is not run again: only the layers above
L, only the tokens from the lookup token on (`seqedit.forward.fixed_past`), only the positions with a loss through the
LM head; and a request that has converged leaves the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqedit.errors import NumericsError
from seqedit.facts.requests import Request
from seqedit.forward.fused_gelu import fused_activations
from seqedit.forward.hooks import inference_state
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.keys.measure import measure_outputs
from seqedit.models.anatomy import Anatomy
from seqedit.support.memory import in_memory
from seqedit.support.progress import Bar, progress_bar
from seqedit.support.shares import WHOLE, ProcessShare
from seqedit.targets.batch import Losses, TargetBatch, unit_means
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.groups import bytes_needed, group_units
from seqedit.targets.norms import anchored, unit_limits
from seqedit.targets.sites import LayerOutput, Site
from seqedit.text.lookup import BARE, tokenize_kl_prompt, tokenize_request

_COMPACT = 0.9
"""Converged requests leave together, once the open ones are at most this share: leaving copies what stays."""
_AT_BOUND = 1 - 1e-6
"""A perturbation of at least this share of its bound is at it."""
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # Adam's usual constants, as in the public implementations


@dataclass(frozen=True, eq=False)
class TargetValues:
    """Result of the optimisation of n requests.

    Attributes:
        values: (n, d) target values z.
        initial: (n, d) hidden states of the bare prompts before the edit.
        losses: Last total loss of each request.
        updates: How many updates each request took.
        reached: Whether all target tokens were the argmax in every context when the loss was last looked at.
        places: Where in the list of requests each of them is; empty where they are all of it, in order.
        bounded: Whether delta ended at the bound on its size: the clamp, or the trust region.
    """

    values: Tensor
    initial: Tensor
    losses: tuple[float, ...]
    updates: tuple[int, ...]
    reached: tuple[bool, ...] = ()
    places: tuple[int, ...] = ()
    bounded: tuple[bool, ...] = ()


def optimise_target_values(
    model: CausalLM,
    parts: Anatomy,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    contexts: Sequence[Sequence[str]],
    layer: int,
    config: TargetValueConfig,
    *,
    site: Site | None = None,
    merge_same_subject: bool = False,
    max_tokens: int = 8192,
    limits: Sequence[float] | None = None,
    norm: float | None = None,
    share: ProcessShare = WHOLE,
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
        limits: A bound on each request's |delta| besides the clamp, as `trust_limits` gives it for
            ``config.trust_region``; None for none.
        norm: What ``config.target_norm`` comes to; None leaves norms as they are found.
        share: This process's share of the groups (`seqedit.targets.split`); all of them by default.

    Raises:
        NumericsError: if a loss is not finite; names the request.
    """
    (layer,) = parts.check_layers([layer])
    place = site or LayerOutput(parts, layer)
    flat = [template for group in contexts for template in group]
    # The bare prompt comes first: the hidden state there is the reference for decay and clamping.
    flat.sort(key=lambda template: template != BARE)
    prompts = [[tokenize_request(tokenizer, r, c, with_target=True) for c in flat] for r in requests]
    kl_prompts = [tokenize_kl_prompt(tokenizer, r) for r in requests] if config.kl_factor else None
    results: list[tuple[int, _Unit]] = []
    bar_of = progress_bar("target values", total=len(requests) * config.steps)
    with inference_state(model), fused_activations(model), bar_of as bar:
        groups = group_units(prompts, _units(requests, merge_same_subject), max_tokens)
        costs = [sum(len(p.ids) - p.lookup for unit in group for i in unit for p in prompts[i]) for group in groups]

        def optimise(group: list[list[int]]) -> list[_Unit]:
            members = [i for unit in group for i in unit]
            kl = None if kl_prompts is None else [kl_prompts[i] for i in members]
            batch = TargetBatch.build(model, place, [prompts[i] for i in members], kl)
            names = [", ".join(f"{i} (subject {requests[i].subject!r})" for i in unit) for unit in group]
            unit_of = torch.tensor([u for u, unit in enumerate(group) for _ in unit])
            at_rest = None
            if config.init_norm == "ffn" or norm is not None:
                at_rest = measure_outputs(
                    model, tokenizer, [requests[i] for i in members], parts.projections[layer].module,
                    max_tokens=max_tokens,
                )  # fmt: skip
            reference = None if at_rest is None or config.init_norm != "ffn" else at_rest.unsqueeze(1)
            within = None if limits is None else unit_limits([limits[i] for i in members], unit_of, len(group))
            found = _optimise(model, batch, unit_of, reference, within, config, names, bar)
            if norm is not None and at_rest is not None:
                _rescale(found, model, batch, unit_of, reference, at_rest, norm, within, config)
            return found.units()

        for group in (groups[g] for g in share.pick(costs)):
            needed = [bytes_needed(parts, layer, [p for i in unit for p in prompts[i]]) for unit in group]
            found = in_memory(optimise, group, needed, parts.projections[layer].weight.device)
            results += [(i, found[u]) for u, unit in enumerate(group) for i in unit]
    if not results:
        return TargetValues(torch.empty(0, parts.hidden_size), torch.empty(0, parts.hidden_size), (), ())
    results.sort(key=lambda item: item[0])
    initial = torch.stack([one.initial for _, one in results])
    delta = torch.stack([one.delta for _, one in results])
    return TargetValues(
        initial + delta, initial, tuple(one.loss for _, one in results), tuple(one.updates for _, one in results),
        tuple(one.reached for _, one in results), () if share == WHOLE else tuple(i for i, _ in results),
        tuple(one.bounded for _, one in results),
    )  # fmt: skip


def _units(requests: Sequence[Request], merge: bool) -> list[list[int]]:
    """The requests that share a target value: each for itself, or all of a subject."""
    if not merge:
        return [[i] for i in range(len(requests))]
    units: dict[str, list[int]] = {}
    for i, request in enumerate(requests):
        units.setdefault(request.subject, []).append(i)
    return list(units.values())


@dataclass(frozen=True, eq=False)
class _Unit:
    """What was found for requests that share a value: its part of `_Found`, in (d,) vectors."""

    initial: Tensor
    delta: Tensor
    loss: float
    updates: int
    reached: bool
    bounded: bool


@dataclass(eq=False)
class _Found:
    """What was found for the units of a group.

    Attributes:
        initial: (units, p, d) unperturbed values.
        delta: (units, p, d) perturbations.
        losses: Last loss of each.
        updates: How many updates each took.
        reached: Whether its targets were the argmax.
        bounded: Whether its delta ended at a bound.
    """

    initial: Tensor
    delta: Tensor
    losses: list[float]
    updates: list[int]
    reached: list[bool]
    bounded: list[bool]

    def units(self) -> list[_Unit]:
        """Each for itself, of the perturbations the last."""
        numbers = zip(self.losses, self.updates, self.reached, self.bounded, strict=True)
        return [_Unit(self.initial[u, -1], self.delta[u, -1], *of) for u, of in enumerate(numbers)]


def _optimise(
    model: CausalLM,
    batch: TargetBatch,
    unit_of: Tensor,
    reference: Tensor | None,
    within: Tensor | None,
    config: TargetValueConfig,
    names: Sequence[str],
    bar: Bar,
) -> _Found:
    """Adam on the perturbations of a group.

    ``unit_of`` (requests,) says whose is whose; decay and clamp are relative to the norms of ``reference`` (requests,
    p, d), None for init's own. ``within`` (units,) bounds the last perturbation besides.
    """
    each = batch.initial(model)
    unit_of = unit_of.to(each.device)
    initial = unit_means(each, unit_of)
    reference = initial if reference is None else unit_means(reference.to(initial), unit_of)
    delta = torch.zeros_like(initial)
    units = delta.shape[0]
    first, second = torch.zeros_like(delta), torch.zeros_like(delta)
    limit = config.clamp_norm_factor * reference.norm(dim=2, keepdim=True)
    if within is not None:
        limit[:, -1] = torch.minimum(limit[:, -1], within.to(limit).unsqueeze(1))
    inside = torch.arange(units, device=delta.device)  # units whose rows the batch still holds
    open_ = torch.ones(units, dtype=torch.bool, device=delta.device)  # which of these have not converged
    nll_factor = torch.ones(units, device=delta.device)
    losses, updates, reached = [float("nan")] * units, [0] * units, [False] * units
    for step in range(config.steps):
        current = delta[inside].requires_grad_(True)
        each, scale = current[unit_of], reference[inside][unit_of]
        found = batch.losses(model, each, scale, config, nll_factor[inside][unit_of]).of_units(unit_of)
        seen = (inside.tolist(), open_.tolist(), found.total.detach().tolist(), found.argmax.tolist())
        for index, is_open, value, argmax in zip(*seen, strict=True):
            if is_open:
                if not math.isfinite(value):
                    raise NumericsError(f"the loss of request {names[index]} is not finite; lower learning_rate")
                losses[index], reached[index] = value, argmax
        bar.advance(int(open_.sum()))
        if step == config.steps - 1:
            break  # as published: the last loss is only looked at
        open_ = open_ & ~_done(found, config)
        left = int(open_.sum())
        if not left:
            break
        if config.argmax_nll_factor != 1.0:
            nll_factor[inside] = torch.where(found.argmax, config.argmax_nll_factor, 1.0)
        # The decay |delta| has no gradient at 0; torch's norm gives 0 there, as the public code relies on.
        (gradient,) = torch.autograd.grad(found.total.sum(), current)
        keep = open_.nonzero().squeeze(1)
        moving, gradient = inside[keep], gradient[keep]
        first[moving] = _BETA1 * first[moving] + (1 - _BETA1) * gradient
        second[moving] = _BETA2 * second[moving] + (1 - _BETA2) * gradient**2
        mean = first[moving] / (1 - _BETA1 ** (step + 1))
        variance = second[moving] / (1 - _BETA2 ** (step + 1))
        moved = delta[moving] - config.learning_rate * mean / (variance.sqrt() + _EPS)
        norm = moved.norm(dim=2, keepdim=True)
        delta[moving] = torch.where(norm > limit[moving], moved * limit[moving] / norm, moved)
        for index in moving.tolist():
            updates[index] += 1
        if left <= _COMPACT * inside.shape[0]:
            rows = open_[unit_of].nonzero().squeeze(1)
            batch, inside = batch.select(rows), moving
            unit_of = (open_.cumsum(0) - 1)[unit_of[rows]]
            open_ = torch.ones_like(inside, dtype=torch.bool)
    bounded = (delta.norm(dim=2, keepdim=True) >= _AT_BOUND * limit).flatten(1).any(1)
    return _Found(initial, delta, losses, updates, reached, bounded.tolist())


def _rescale(
    found: _Found,
    model: CausalLM,
    batch: TargetBatch,
    unit_of: Tensor,
    reference: Tensor | None,
    at_rest: Tensor,
    norm: float,
    within: Tensor | None,
    config: TargetValueConfig,
) -> None:
    """Bring the values of a group to a norm and look at the loss again; a trust region holds afterwards too.

    ``at_rest`` (requests, d) is what the FFN puts out unperturbed; the other arguments are those of `_optimise`.
    """
    unit_of, last = unit_of.to(found.delta.device), found.delta[:, -1]
    moved = anchored(unit_means(at_rest.to(last), unit_of), last, norm)
    if within is not None:
        size, limit = moved.norm(dim=1, keepdim=True), within.to(moved).unsqueeze(1)
        found.bounded = [b or c for b, c in zip(found.bounded, (size > limit).flatten().tolist(), strict=True)]
        moved = torch.where(size > limit, moved * limit / size, moved)
    found.delta[:, -1] = moved
    scale = found.initial if reference is None else unit_means(reference.to(found.initial), unit_of)
    with torch.no_grad():
        factor = torch.ones(len(unit_of), device=last.device)
        seen = batch.losses(model, found.delta[unit_of], scale[unit_of], config, factor).of_units(unit_of)
    found.losses, found.reached = seen.total.tolist(), seen.argmax.tolist()


def _done(found: Losses, config: TargetValueConfig) -> Tensor:
    """(requests,) which requests have converged."""
    done = found.total.detach() < config.stop_below
    if config.stop_at_argmax:
        settled = found.kl <= config.argmax_kl if config.argmax_kl is not None else torch.ones_like(done)
        done = done | (found.argmax & settled)
    return done
