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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqedit.anatomy import Anatomy
from seqedit.batching import pad_right
from seqedit.config import TargetValueConfig
from seqedit.errors import NumericsError
from seqedit.lookup import BARE, Prompt, tokenize_kl_prompt, tokenize_request
from seqedit.progress import Bar, progress_bar
from seqedit.replay import Cut, logits_above, run_to_layer
from seqedit.requests import Request
from seqedit.tracing import inference_state, input_device

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
        max_tokens: Padded tokens held at once; more requests are done in several groups.

    Raises:
        NumericsError: if a loss is not finite; names the request.
    """
    (layer,) = parts.check_layers([layer])
    flat = [template for group in contexts for template in group]
    # The bare prompt comes first: the hidden state there is the reference for decay and clamping.
    flat.sort(key=lambda template: template != BARE)
    prompts = [
        [*(tokenize_request(tokenizer, r, c, with_target=True) for c in flat), tokenize_kl_prompt(tokenizer, r)]
        for r in requests
    ]
    results: list[tuple[int, Tensor, Tensor, float, int]] = []
    with inference_state(model), progress_bar("target values", total=len(requests) * config.steps) as bar:
        for group in _groups(prompts, max_tokens):
            batch = _Batch.build(model, parts, [prompts[i] for i in group], layer)
            names = [f"{group[j]} (subject {requests[group[j]].subject!r})" for j in range(len(group))]
            found = _optimise(model, parts, batch, config, names, bar)
            results += [(group[j], *found[j]) for j in range(len(group))]
    results.sort(key=lambda item: item[0])
    initial = torch.stack([item[1] for item in results])
    delta = torch.stack([item[2] for item in results])
    return TargetValues(
        initial + delta, initial, tuple(item[3] for item in results), tuple(item[4] for item in results)
    )


def _groups(prompts: Sequence[Sequence[Prompt]], max_tokens: int) -> list[list[int]]:
    """Requests in groups of similar length that fit ``max_tokens`` when padded."""
    longest = [max(len(p.ids) for p in rows) for rows in prompts]
    groups: list[list[int]] = [[]]
    for i in sorted(range(len(prompts)), key=lambda i: (longest[i], i)):
        if groups[-1] and (len(groups[-1]) + 1) * len(prompts[i]) * longest[i] > max_tokens:
            groups.append([])
        groups[-1].append(i)
    return groups


@dataclass(frozen=True, eq=False)
class _Batch:
    """Rows of a group of requests: for each request its contexts, then its KL prompt.

    Attributes:
        cut: All rows, run up to layer L.
        lookup: (rows,) lookup positions.
        positions: (rows, m) positions whose logits are wanted, padded with 0.
        targets: (rows, m) ids predicted there, -100 where there are none.
        per_request: Rows of one request.
        kl_logprobs: (requests, vocabulary) log-probabilities of the unperturbed KL prompts.
    """

    cut: Cut
    lookup: Tensor
    positions: Tensor
    targets: Tensor
    per_request: int
    kl_logprobs: Tensor

    @classmethod
    def build(cls, model: Any, parts: Anatomy, prompts: Sequence[Sequence[Prompt]], layer: int) -> _Batch:
        rows = [prompt for group in prompts for prompt in group]
        device = input_device(model)
        ids, mask = pad_right([prompt.ids for prompt in rows], device)
        cut = run_to_layer(model, parts, layer, ids, mask)
        width = max(1, *(len(p.target_ids) for p in rows))
        positions = torch.zeros(len(rows), width, dtype=torch.long)
        targets = torch.full((len(rows), width), -100, dtype=torch.long)
        for row, prompt in enumerate(rows):
            count = len(prompt.target_ids)
            if count:
                positions[row, :count] = prompt.target_start + torch.arange(count)
                targets[row, :count] = torch.tensor(prompt.target_ids)
            else:
                positions[row, 0] = prompt.lookup
        lookup = torch.tensor([p.lookup for p in rows], device=cut.hidden.device)
        batch = cls(cut, lookup, positions.to(device), targets.to(device), len(prompts[0]), torch.empty(0))
        with torch.no_grad():
            kl_rows = torch.arange(batch.per_request - 1, len(rows), batch.per_request, device=device)
            only_kl = batch._rows(kl_rows)
            logits = logits_above(model, parts, only_kl.cut, only_kl.cut.hidden, only_kl.positions[:, :1])
        return replace(batch, kl_logprobs=_log_softmax(logits[:, 0]))

    @property
    def requests(self) -> int:
        return self.lookup.shape[0] // self.per_request

    def initial(self) -> Tensor:
        """(requests, d) hidden states of the bare prompts at the lookup token."""
        rows = torch.arange(0, self.lookup.shape[0], self.per_request, device=self.lookup.device)
        hidden = self.cut.hidden[rows, self.lookup[rows]]
        return hidden.to(torch.promote_types(hidden.dtype, torch.float32))

    def perturbed(self, delta: Tensor) -> Tensor:
        """Hidden states with (requests, d) ``delta`` added at every row's lookup token."""
        hidden = self.cut.hidden
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        added = hidden[rows, self.lookup] + delta.repeat_interleave(self.per_request, 0).to(hidden.dtype)
        return hidden.index_put((rows, self.lookup), added)

    def losses(self, logits: Tensor, delta: Tensor, initial: Tensor, config: TargetValueConfig) -> Tensor:
        """(requests,) total losses from (rows, m, vocabulary) logits."""
        logprobs = _log_softmax(logits).view(self.requests, self.per_request, logits.shape[1], -1)
        targets = self.targets.to(logits.device).view(self.requests, self.per_request, -1)[:, :-1]
        wanted = targets >= 0
        picked = logprobs[:, :-1].gather(3, targets.clamp_min(0).unsqueeze(3)).squeeze(3)
        nll = -(picked * wanted).sum(2) / wanted.sum(2)
        kl = F.kl_div(self.kl_logprobs, logprobs[:, -1, 0], log_target=True, reduction="none").sum(1)
        decay = delta.norm(dim=1) / initial.norm(dim=1) ** 2
        device = delta.device
        return nll.mean(1).to(device) + config.kl_factor * kl.to(device) + config.weight_decay * decay

    def _rows(self, rows: Tensor) -> _Batch:
        def take(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]

        cut = replace(
            self.cut,
            input_ids=take(self.cut.input_ids),
            attention_mask=take(self.cut.attention_mask),
            hidden=take(self.cut.hidden),
            # Whatever else a layer returns (attention weights, say) is not per-row state that later layers read.
        )
        return replace(
            self, cut=cut, lookup=take(self.lookup), positions=take(self.positions), targets=take(self.targets)
        )

    def select(self, keep: Tensor) -> _Batch:
        """Only the rows of some requests, (k,) indices."""
        offsets = torch.arange(self.per_request, device=keep.device)
        rows = (keep.unsqueeze(1) * self.per_request + offsets).reshape(-1)
        return replace(self._rows(rows), kl_logprobs=self.kl_logprobs[keep.to(self.kl_logprobs.device)])


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _optimise(
    model: Any, parts: Anatomy, batch: _Batch, config: TargetValueConfig, names: Sequence[str], bar: Bar
) -> list[tuple[Tensor, Tensor, float, int]]:
    """(init, delta, last loss, updates) of each request of a group."""
    initial = batch.initial()
    delta = torch.zeros_like(initial)
    first, second = torch.zeros_like(delta), torch.zeros_like(delta)
    limit = config.clamp_norm_factor * initial.norm(dim=1, keepdim=True)
    active = torch.arange(batch.requests, device=delta.device)
    losses, updates = [float("nan")] * batch.requests, [0] * batch.requests
    for step in range(config.steps):
        current = delta[active].requires_grad_(True)
        logits = logits_above(model, parts, batch.cut, batch.perturbed(current), batch.positions)
        loss = batch.losses(logits, current, initial[active], config)
        values = loss.detach().tolist()
        for index, value in zip(active.tolist(), values, strict=True):
            if not torch.isfinite(torch.tensor(value)):
                raise NumericsError(f"the loss of request {names[index]} is not finite; lower learning_rate")
            losses[index] = value
        bar.advance(len(values))
        if step == config.steps - 1:
            break  # as published: the last loss is only looked at
        open_ = torch.tensor([value >= config.stop_below for value in values], device=delta.device)
        if not bool(open_.any()):
            break
        # The decay |delta| has no gradient at 0; torch's norm gives 0 there, as the public code relies on.
        (gradient,) = torch.autograd.grad(loss.sum(), current)
        if not bool(open_.all()):
            keep = open_.nonzero().squeeze(1)
            batch, active, gradient = batch.select(keep), active[keep], gradient[keep]
        first[active] = _BETA1 * first[active] + (1 - _BETA1) * gradient
        second[active] = _BETA2 * second[active] + (1 - _BETA2) * gradient**2
        mean = first[active] / (1 - _BETA1 ** (step + 1))
        variance = second[active] / (1 - _BETA2 ** (step + 1))
        moved = delta[active] - config.learning_rate * mean / (variance.sqrt() + _EPS)
        norm = moved.norm(dim=1, keepdim=True)
        delta[active] = torch.where(norm > limit[active], moved * limit[active] / norm, moved)
        for index in active.tolist():
            updates[index] += 1
    return [(initial[j], delta[j], losses[j], updates[j]) for j in range(len(names))]
