"""The baseline: knowledge editing as the published programs do it, one request at a time.

Written from the algorithm of ROME (arXiv 2202.05262, eq. 4) and MEMIT (arXiv 2210.07229, eq. 16 and algorithm 1) with
the details of their public programs: for one request its contexts and its KL prompt are one padded batch that goes
through the *whole* model in every step, a hook adds delta to the output of layer L, all positions pass the LM head and
the softmax, and torch's Adam moves delta. Keys and current values are measured anew for every layer by passes through
the whole model, and C + K K^T is formed and solved for every layer of every batch.

It gives the results of `seqedit` to rounding (tests/benchmarks/test_plain_loop.py), so the two can be compared by time.
In one thing it does less than the public programs: they apply the LM head twice to the rewriting prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.forward.access import input_device
from seqedit.forward.batching import pad_right
from seqedit.forward.hooks import by_token, hidden_of, hooks, inference_state
from seqedit.methods.config import ClosedFormConfig
from seqedit.methods.interface import add_to_weight
from seqedit.models.anatomy import Anatomy
from seqedit.moments.second_moments import SecondMoments, shrink
from seqedit.targets.config import TargetValueConfig
from seqedit.text.lookup import BARE, Prompt, tokenize_kl_prompt, tokenize_request


@dataclass(frozen=True, eq=False)
class PlainValue:
    """Result of one request's optimisation: target value z (d,), last loss, number of updates."""

    value: Tensor
    loss: float
    updates: int


def plain_target_values(
    model: Any,
    parts: Anatomy,
    tokenizer: Any,
    requests: Sequence[Request],
    contexts: Sequence[Sequence[str]],
    layer: int,
    config: TargetValueConfig,
) -> list[PlainValue]:
    """Target values at the output of one layer, request after request; arguments as for `optimise_target_values`."""
    if config.stop_at_argmax or config.argmax_nll_factor != 1.0:
        raise InputError("the plain loop has no stop at the argmax; the published algorithm has none")
    with inference_state(model):
        return [_one_value(model, parts, tokenizer, request, contexts, layer, config) for request in requests]


def _one_value(
    model: Any,
    parts: Anatomy,
    tokenizer: Any,
    request: Request,
    contexts: Sequence[Sequence[str]],
    layer: int,
    config: TargetValueConfig,
) -> PlainValue:
    flat = sorted((c for group in contexts for c in group), key=lambda context: context != BARE)
    rows = [*(tokenize_request(tokenizer, request, c, with_target=True) for c in flat)]
    rows.append(tokenize_kl_prompt(tokenizer, request))
    ids, mask = pad_right([row.ids for row in rows], input_device(model))
    targets, wanted = _targets(rows, ids)
    number = torch.arange(len(rows), device=ids.device)
    lookup = torch.tensor([row.lookup for row in rows], device=ids.device)
    dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    delta = torch.zeros(parts.hidden_size, dtype=dtype, device=ids.device, requires_grad=True)
    initial: list[Tensor] = []

    def add_delta(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        states = by_token(hidden_of(output), ids)
        if not initial:
            initial.append(states[0, lookup[0]].detach().to(dtype))
        changed = states.index_put((number, lookup), states[number, lookup] + delta.to(states))
        changed = changed.view_as(hidden_of(output))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    optimiser = torch.optim.Adam([delta], lr=config.learning_rate)
    before: Tensor | None = None
    loss, updates = torch.empty(0), 0
    with hooks(post={parts.layers[layer]: add_delta}):
        for step in range(config.steps):
            optimiser.zero_grad()
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            logprobs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
            kl_row = logprobs[-1, rows[-1].lookup]
            before = kl_row.detach().clone() if before is None else before
            picked = logprobs[:-1].gather(2, targets.clamp_min(0).unsqueeze(2)).squeeze(2)
            nll = (-(picked * wanted).sum(1) / wanted.sum(1)).mean()
            kl = config.kl_factor * F.kl_div(before, kl_row, log_target=True, reduction="sum")
            loss = nll + kl + config.weight_decay * (delta.norm() / initial[0].norm() ** 2)
            if float(loss.detach()) < config.stop_below or step == config.steps - 1:
                break
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            updates += 1
            bound = config.clamp_norm_factor * initial[0].norm()
            with torch.no_grad():
                if delta.norm() > bound:
                    delta.mul_(bound / delta.norm())
    return PlainValue(initial[0] + delta.detach(), float(loss.detach()), updates)


def _targets(rows: Sequence[Prompt], ids: Tensor) -> tuple[Tensor, Tensor]:
    """(contexts, t) ids predicted at each position of the rewriting prompts, -100 for none; and where there are any."""
    targets = torch.full((len(rows) - 1, ids.shape[1]), -100, dtype=torch.long)
    for number, row in enumerate(rows[:-1]):
        targets[number, row.target_start : row.target_start + len(row.target_ids)] = torch.tensor(row.target_ids)
    return targets.to(ids.device), (targets >= 0).to(ids.device)


def plain_keys(
    model: Any,
    parts: Anatomy,
    tokenizer: Any,
    requests: Sequence[Request],
    contexts: Sequence[Sequence[str]],
    layer: int,
    at_once: int = 1,
) -> Tensor:
    """(n, d_in) float64 keys of one layer, by passes of ``at_once`` prompts through the whole model."""
    prompts = [tokenize_request(tokenizer, r, c) for r in requests for group in contexts for c in group]
    weights = torch.tensor([1.0 / (len(contexts) * len(g)) for g in contexts for _ in g], dtype=torch.float64)
    states = _at_lookup(model, prompts, parts.projections[layer].module, at_once, inputs=True)
    return (states.view(len(requests), len(weights), -1) * weights.to(states.device).view(1, -1, 1)).sum(1)


def plain_outputs(
    model: Any, parts: Anatomy, tokenizer: Any, requests: Sequence[Request], layer: int, at_once: int = 1
) -> Tensor:
    """(n, d) float64 outputs of a layer at the lookup token of the bare prompts, by passes through the whole model."""
    prompts = [tokenize_request(tokenizer, request) for request in requests]
    return _at_lookup(model, prompts, parts.layers[layer], at_once, inputs=False)


def _at_lookup(model: Any, prompts: Sequence[Prompt], module: nn.Module, at_once: int, *, inputs: bool) -> Tensor:
    """(prompts, features) float64 inputs or outputs of a module at the lookup tokens."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(args[0] if inputs else hidden_of(output))

    found = []
    with torch.no_grad(), inference_state(model), hooks(post={module: look}):
        for start in range(0, len(prompts), at_once):
            batch = prompts[start : start + at_once]
            ids, mask = pad_right([prompt.ids for prompt in batch], input_device(model))
            model(input_ids=ids, attention_mask=mask, use_cache=False)
            states = by_token(seen.pop(), ids)
            at = torch.tensor([prompt.lookup for prompt in batch], device=states.device)
            found.append(states[torch.arange(len(batch), device=states.device), at].double())
    return torch.cat(found)


def plain_solve(C: Tensor, K: Tensor, R: Tensor) -> Tensor:
    """Delta = R K^T (C + K K^T)^-1 as MEMIT's program has it: the matrix is formed and solved for the keys.

    Args:
        C: Weighted second moment, (d_in, d_in) float64.
        K: (d_in, n) keys.
        R: (d_out, n) residuals.

    Returns:
        (d_out, d_in) float64.
    """
    adjusted: Tensor = torch.linalg.solve(C + K @ K.T, K)
    return R @ adjusted.T


def plain_edit(
    model: Any,
    parts: Anatomy,
    tokenizer: Any,
    requests: Sequence[Request],
    contexts: Sequence[Sequence[str]],
    config: ClosedFormConfig,
    moments: SecondMoments,
    at_once: int = 1,
) -> dict[str, Tensor]:
    """A whole batch by MEMIT; the deltas stay written to the model.

    Args:
        model: The causal LM.
        parts: Its anatomy.
        tokenizer: Its fast tokenizer.
        requests: n requests.
        contexts: Groups of context templates.
        config: MEMIT's settings; what the published algorithm does not have (protected keys) is left undone.
        moments: Second moments of the edited layers.
        at_once: Prompts of one pass when keys and values are measured.

    Returns:
        Module name -> (d_out, d_in) float64 delta.
    """
    layers = parts.check_layers(config.layers)
    found = plain_target_values(model, parts, tokenizer, requests, contexts, layers[-1], config)
    values = torch.stack([one.value for one in found]).double()
    deltas = {}
    for index, layer in enumerate(layers):
        projection = parts.projections[layer]
        keys = plain_keys(model, parts, tokenizer, requests, contexts, layer, at_once)
        now = plain_outputs(model, parts, tokenizer, requests, layers[-1], at_once)
        left = len(layers) - index
        share = (values - now) / {"single": 1.0, "even": float(left), "sqrt": math.sqrt(left)}[config.spread]
        C = config.second_moment_weight * shrink(moments.matrices[projection.name].to(keys.device), config.shrinkage)
        delta = plain_solve(C.double(), keys.T, share.T)
        add_to_weight(projection, projection.matrix().clone(), delta)
        deltas[projection.name] = delta
    return deltas
