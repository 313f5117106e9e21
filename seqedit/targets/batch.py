"""The rows that the target-value optimisation runs: every request in its contexts, and its KL prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seqedit.forward.protocols import CausalLM
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.groups import PASS_TOKENS
from seqedit.targets.rows import Rows
from seqedit.targets.sites import Site
from seqedit.text.lookup import Prompt


@dataclass(frozen=True, eq=False)
class Losses:
    """What the optimisation looks at, per request.

    Attributes:
        total: (requests,) losses to minimise.
        kl: (requests,) weighted KL divergences.
        argmax: (requests,) whether every target token is the most likely one in every context.
    """

    total: Tensor
    kl: Tensor
    argmax: Tensor

    def of_units(self, unit_of: Tensor) -> Losses:
        """Losses of the units that requests belong to: the mean of theirs, and of the stops what holds for all."""
        failed = torch.zeros_like(self.argmax[: int(unit_of.max()) + 1], dtype=torch.int)
        failed = failed.index_add(0, unit_of, (~self.argmax).int())
        return Losses(unit_means(self.total, unit_of), unit_means(self.kl, unit_of), failed == 0)


def unit_means(values: Tensor, unit_of: Tensor) -> Tensor:
    """Means over the requests of each unit.

    Args:
        values: (requests, ...).
        unit_of: (requests,) unit of each request, every unit from 0 on at least once.

    Returns:
        (units, ...).
    """
    counts = torch.bincount(unit_of)
    sums = torch.zeros_like(values[: counts.shape[0]]).index_add(0, unit_of, values)
    return sums / counts.view(-1, *[1] * (values.ndim - 1))


@dataclass(frozen=True, eq=False)
class TargetBatch:
    """Rows of a group of requests.

    Attributes:
        site: Where the perturbations are added.
        rewrites: Each request in its contexts, with its target; in small groups its KL prompt behind them.
        targets: (k,) ids predicted at the first positions of ``rewrites``.
        weights: (k,) weights of their likelihoods in the loss: those of a request sum to 1.
        kl: Each request's KL prompt, where these are rows of their own.
        kl_logprobs: (requests, vocabulary) log-probabilities of the unperturbed KL prompts, None where the divergence
            has no weight.
    """

    site: Site
    rewrites: Rows
    targets: Tensor
    weights: Tensor
    kl: Rows | None
    kl_logprobs: Tensor | None

    @classmethod
    def build(
        cls, model: CausalLM, site: Site, rewrites: Sequence[Sequence[Prompt]], kl_prompts: Sequence[Prompt] | None
    ) -> TargetBatch:
        """Tokenized rows as one batch, with the unperturbed distributions of the KL prompts.

        Args:
            model: The causal LM.
            site: Where the perturbations are added.
            rewrites: For each request its contexts with the target, the bare prompt first; as many for each.
            kl_prompts: The KL prompt of each request; None if the divergence has no weight.
        """
        contexts = len(rewrites[0])
        # A KL prompt is looked at where it is perturbed, one token. Beside rows of several the rest is padding, in a
        # pass of its own it costs a pass.
        width = max(len(p.ids) - p.lookup for group in rewrites for p in group)
        joined = kl_prompts is not None and len(rewrites) * (width - 1) <= PASS_TOKENS
        if joined and kl_prompts is not None:
            groups = [[*group, kl] for group, kl in zip(rewrites, kl_prompts, strict=True)]
            rows = Rows.build(site, [p for group in groups for p in group], contexts + 1)
        else:
            rows = Rows.build(site, [p for group in rewrites for p in group], contexts)
        device = rows.lookup.device
        flat = [prompt for group in rewrites for prompt in group]
        targets = torch.tensor([t for p in flat for t in p.target_ids], device=device)
        weights = torch.tensor(
            [1.0 / (contexts * len(p.target_ids)) for p in flat for _ in p.target_ids], device=device
        )
        if kl_prompts is None:
            return cls(site, rows, targets, weights, None, None)
        kl = None if joined else Rows.build(site, kl_prompts, 1)
        with torch.no_grad():
            logprobs = (kl or rows.last_of_each()).logits(model, site, None).log_softmax(-1)
        return cls(site, rows, targets, weights, kl, logprobs)

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return self.rewrites.lookup.shape[0] // self.rewrites.per_request

    def initial(self, model: CausalLM) -> Tensor:
        """(requests, p, d) unperturbed values of the bare prompts at the lookup token."""
        lookup = self.rewrites.lookup
        rows = torch.arange(0, lookup.shape[0], self.rewrites.per_request, device=lookup.device)
        values = self.site.initial(model, self.rewrites.cut, rows, lookup)
        return values.to(torch.promote_types(values.dtype, torch.float32))

    def losses(
        self, model: CausalLM, delta: Tensor, reference: Tensor, config: TargetValueConfig, nll_factor: Tensor
    ) -> Losses:
        """Losses of every request.

        Args:
            model: The causal LM.
            delta: (requests, p, d) perturbations.
            reference: (requests, p, d) values whose norms the decay is relative to.
            config: Weights of the parts.
            nll_factor: (requests,) weights of the likelihood.
        """
        device, count = delta.device, self.targets.shape[0]
        looked_at = self.rewrites.logits(model, self.site, delta)
        logits = looked_at[:count]
        targets, of = self.targets.to(logits.device), self.rewrites.request[:count].to(logits.device)
        each = F.cross_entropy(logits, targets, reduction="none")
        nll = _sums(each * self.weights.to(each), of, self.requests).to(device)
        with torch.no_grad():
            missed = logits.gather(1, targets.unsqueeze(1)).squeeze(1) < logits.amax(1)
            argmax = _sums(missed.float(), of, self.requests) == 0
        kl = torch.zeros_like(nll)
        if self.kl_logprobs is not None:
            other = looked_at[count:] if self.kl is None else self.kl.logits(model, self.site, delta)
            logprobs = other.log_softmax(-1)
            kl = F.kl_div(self.kl_logprobs, logprobs, log_target=True, reduction="none").sum(1).to(device)
            kl = config.kl_factor * kl
        decay = (delta.norm(dim=2) / reference.norm(dim=2) ** 2).sum(1)
        return Losses(nll_factor * nll + kl + config.weight_decay * decay, kl.detach(), argmax.to(device))

    def select(self, keep: Tensor) -> TargetBatch:
        """Only the rows of some requests, (r,) ascending indices."""
        rewrites, left = self.rewrites.select(keep)
        left = left[left < self.targets.shape[0]]
        kl = None if self.kl is None else self.kl.select(keep)[0]
        logprobs = None if self.kl_logprobs is None else self.kl_logprobs[keep.to(self.kl_logprobs.device)]
        return TargetBatch(self.site, rewrites, self.targets[left], self.weights[left], kl, logprobs)


def _sums(values: Tensor, of: Tensor, requests: int) -> Tensor:
    return torch.zeros(requests, dtype=values.dtype, device=values.device).index_add(0, of, values)
