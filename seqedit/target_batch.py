"""The rows that the target-value optimisation runs: every request in its contexts, and its KL prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqedit.config import TargetValueConfig
from seqedit.lookup import Prompt
from seqedit.replay import Cut
from seqedit.sites import Site


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
class Rows:
    """Rows that are perturbed at their lookup token, the same number for each request, and the positions looked at.

    Attributes:
        cut: The rows, run up to where the site begins.
        per_request: Rows of one request; they stand side by side.
        lookup: (rows,) columns of the lookup tokens.
        row: (k,) rows of the positions whose logits are wanted, ascending.
        column: (k,) their columns.
    """

    cut: Cut
    per_request: int
    lookup: Tensor
    row: Tensor
    column: Tensor

    @classmethod
    def build(cls, site: Site, prompts: Sequence[Prompt], per_request: int) -> Rows:
        """Rows of prompts: those with a target are looked at where it is predicted, others at their lookup token."""
        # A prompt without a target is only looked at where it is perturbed: nothing after that token matters.
        rows = [p.ids if p.target_ids else p.ids[: p.lookup + 1] for p in prompts]
        cut = site.cut(rows, [p.lookup for p in prompts])
        device = cut.input_ids.device
        lookup = torch.tensor([p.lookup for p in prompts], device=device)
        wanted = [range(p.target_start, p.target_start + len(p.target_ids)) or range(p.lookup, p.lookup + 1)
                  for p in prompts]  # fmt: skip
        row = torch.tensor([i for i, columns in enumerate(wanted) for _ in columns], device=device)
        column = torch.tensor([c for columns in wanted for c in columns], device=device)
        if cut.past is not None:  # its columns begin at the lookup tokens
            column, lookup = column - lookup[row], torch.zeros_like(lookup)
        return cls(cut, per_request, lookup, row, column)

    @property
    def request(self) -> Tensor:
        """(k,) request of each position."""
        return self.row // self.per_request

    def logits(self, model: Any, site: Site, delta: Tensor | None) -> Tensor:
        """(k, vocabulary) logits with (requests, p, d) perturbations, at least float32."""
        spread = None if delta is None else delta.repeat_interleave(self.per_request, 0)
        logits = site.logits(model, self.cut, self.lookup, spread, self.row, self.column)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def select(self, keep: Tensor) -> tuple[Rows, Tensor]:
        """Only the rows of some requests, (r,) ascending indices; and the (k',) positions that are left."""
        offsets = torch.arange(self.per_request, device=keep.device)
        rows = (keep.unsqueeze(1) * self.per_request + offsets).reshape(-1)
        number = torch.full_like(self.lookup, -1)
        number[rows] = torch.arange(rows.shape[0], device=rows.device)
        left = (number[self.row] >= 0).nonzero().squeeze(1)
        kept = replace(self, cut=self.cut.rows(rows), lookup=self.lookup[rows], row=number[self.row[left]])
        return replace(kept, column=self.column[left]), left


@dataclass(frozen=True, eq=False)
class TargetBatch:
    """Rows of a group of requests.

    Attributes:
        site: Where the perturbations are added.
        rewrites: Each request in its contexts, with its target.
        targets: (k,) ids predicted at the positions of ``rewrites``.
        weights: (k,) weights of their likelihoods in the loss: those of a request sum to 1.
        kl: Each request's KL prompt, None where the divergence has no weight.
        kl_logprobs: (requests, vocabulary) log-probabilities of the unperturbed KL prompts.
    """

    site: Site
    rewrites: Rows
    targets: Tensor
    weights: Tensor
    kl: Rows | None
    kl_logprobs: Tensor

    @classmethod
    def build(
        cls, model: Any, site: Site, rewrites: Sequence[Sequence[Prompt]], kl_prompts: Sequence[Prompt] | None
    ) -> TargetBatch:
        """Tokenized rows as one batch, with the unperturbed distributions of the KL prompts.

        Args:
            model: The causal LM.
            site: Where the perturbations are added.
            rewrites: For each request its contexts with the target, the bare prompt first; as many for each.
            kl_prompts: The KL prompt of each request; None if the divergence has no weight.
        """
        contexts = len(rewrites[0])
        flat = [prompt for group in rewrites for prompt in group]
        rows = Rows.build(site, flat, contexts)
        device = rows.lookup.device
        targets = torch.tensor([t for p in flat for t in p.target_ids], device=device)
        weights = torch.tensor(
            [1.0 / (contexts * len(p.target_ids)) for p in flat for _ in p.target_ids], device=device
        )
        if kl_prompts is None:
            return cls(site, rows, targets, weights, None, torch.empty(0))
        kl = Rows.build(site, kl_prompts, 1)
        with torch.no_grad():
            logprobs = kl.logits(model, site, None).log_softmax(-1)
        return cls(site, rows, targets, weights, kl, logprobs)

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return self.rewrites.lookup.shape[0] // self.rewrites.per_request

    def initial(self, model: Any) -> Tensor:
        """(requests, p, d) unperturbed values of the bare prompts at the lookup token."""
        lookup = self.rewrites.lookup
        rows = torch.arange(0, lookup.shape[0], self.rewrites.per_request, device=lookup.device)
        values = self.site.initial(model, self.rewrites.cut, rows, lookup)
        return values.to(torch.promote_types(values.dtype, torch.float32))

    def losses(
        self, model: Any, delta: Tensor, initial: Tensor, config: TargetValueConfig, nll_factor: Tensor
    ) -> Losses:
        """Losses of every request.

        Args:
            model: The causal LM.
            delta: (requests, p, d) perturbations.
            initial: (requests, p, d) unperturbed values.
            config: Weights of the parts.
            nll_factor: (requests,) weights of the likelihood.
        """
        device = delta.device
        logits = self.rewrites.logits(model, self.site, delta)
        targets, of = self.targets.to(logits.device), self.rewrites.request.to(logits.device)
        each = F.cross_entropy(logits, targets, reduction="none")
        nll = _sums(each * self.weights.to(each), of, self.requests).to(device)
        with torch.no_grad():
            missed = logits.gather(1, targets.unsqueeze(1)).squeeze(1) < logits.amax(1)
            argmax = _sums(missed.float(), of, self.requests) == 0
        kl = torch.zeros_like(nll)
        if self.kl is not None:
            logprobs = self.kl.logits(model, self.site, delta).log_softmax(-1)
            kl = F.kl_div(self.kl_logprobs, logprobs, log_target=True, reduction="none").sum(1).to(device)
            kl = config.kl_factor * kl
        decay = (delta.norm(dim=2) / initial.norm(dim=2) ** 2).sum(1)
        return Losses(nll_factor * nll + kl + config.weight_decay * decay, kl.detach(), argmax.to(device))

    def select(self, keep: Tensor) -> TargetBatch:
        """Only the rows of some requests, (r,) ascending indices."""
        rewrites, left = self.rewrites.select(keep)
        kl = None if self.kl is None else self.kl.select(keep)[0]
        logprobs = self.kl_logprobs if kl is None else self.kl_logprobs[keep.to(self.kl_logprobs.device)]
        return TargetBatch(self.site, rewrites, self.targets[left], self.weights[left], kl, logprobs)


def _sums(values: Tensor, of: Tensor, requests: int) -> Tensor:
    return torch.zeros(requests, dtype=values.dtype, device=values.device).index_add(0, of, values)
