"""The rows that the target-value optimisation runs: every request in its contexts, and its KL prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqedit.batching import pad_right
from seqedit.config import TargetValueConfig
from seqedit.lookup import Prompt
from seqedit.replay import Cut
from seqedit.sites import Site
from seqedit.tracing import input_device


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
    """Rows of a group of requests: for each request its contexts, then its KL prompt.

    Attributes:
        site: Where the perturbations are added.
        cut: All rows, run up to where the site begins.
        lookup: (rows,) lookup positions.
        positions: (rows, m) positions whose logits are wanted, padded with 0.
        targets: (rows, m) ids predicted there, -100 where there are none.
        per_request: Rows of one request.
        kl_logprobs: (requests, vocabulary) log-probabilities of the unperturbed KL prompts.
    """

    site: Site
    cut: Cut
    lookup: Tensor
    positions: Tensor
    targets: Tensor
    per_request: int
    kl_logprobs: Tensor

    @classmethod
    def build(cls, model: Any, site: Site, prompts: Sequence[Sequence[Prompt]]) -> TargetBatch:
        """Tokenized rows as one batch, with the unperturbed distributions of the KL prompts."""
        rows = [prompt for group in prompts for prompt in group]
        device = input_device(model)
        ids, mask = pad_right([prompt.ids for prompt in rows], device)
        cut = site.cut(model, ids, mask)
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
        lookup = torch.tensor([p.lookup for p in rows], device=device)
        batch = cls(site, cut, lookup, positions.to(device), targets.to(device), len(prompts[0]), torch.empty(0))
        with torch.no_grad():
            kl_rows = torch.arange(batch.per_request - 1, len(rows), batch.per_request, device=device)
            only_kl = batch._rows(kl_rows)
            logits = site.logits(model, only_kl.cut, only_kl.lookup, None, only_kl.positions[:, :1])
        return replace(batch, kl_logprobs=_log_softmax(logits[:, 0]))

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return self.lookup.shape[0] // self.per_request

    def initial(self, model: Any) -> Tensor:
        """(requests, p, d) unperturbed values of the bare prompts at the lookup token."""
        rows = torch.arange(0, self.lookup.shape[0], self.per_request, device=self.lookup.device)
        values = self.site.initial(model, self.cut, rows, self.lookup)
        return values.to(torch.promote_types(values.dtype, torch.float32))

    def logits(self, model: Any, delta: Tensor) -> Tensor:
        """(rows, m, vocabulary) logits with (requests, p, d) perturbations."""
        return self.site.logits(
            model, self.cut, self.lookup, delta.repeat_interleave(self.per_request, 0), self.positions
        )

    def losses(
        self, logits: Tensor, delta: Tensor, initial: Tensor, config: TargetValueConfig, nll_factor: Tensor
    ) -> Losses:
        """Losses of every request.

        Args:
            logits: (rows, m, vocabulary).
            delta: (requests, p, d) perturbations.
            initial: (requests, p, d) unperturbed values.
            config: Weights of the parts.
            nll_factor: (requests,) weights of the likelihood.
        """
        logprobs = _log_softmax(logits).view(self.requests, self.per_request, logits.shape[1], -1)
        targets = self.targets.to(logits.device).view(self.requests, self.per_request, -1)[:, :-1]
        wanted = targets >= 0
        rewrites = logprobs[:, :-1]
        picked = rewrites.gather(3, targets.clamp_min(0).unsqueeze(3)).squeeze(3)
        nll = -(picked * wanted).sum(2) / wanted.sum(2)
        kl = F.kl_div(self.kl_logprobs, logprobs[:, -1, 0], log_target=True, reduction="none").sum(1)
        decay = (delta.norm(dim=2) / initial.norm(dim=2) ** 2).sum(1)
        device = delta.device
        kl = config.kl_factor * kl.to(device)
        total = nll_factor * nll.mean(1).to(device) + kl + config.weight_decay * decay
        argmax = ((picked.detach() >= rewrites.detach().amax(3)) | ~wanted).flatten(1).all(1)
        return Losses(total, kl.detach(), argmax.to(device))

    def _rows(self, rows: Tensor) -> TargetBatch:
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

    def select(self, keep: Tensor) -> TargetBatch:
        """Only the rows of some requests, (k,) indices."""
        offsets = torch.arange(self.per_request, device=keep.device)
        rows = (keep.unsqueeze(1) * self.per_request + offsets).reshape(-1)
        return replace(self._rows(rows), kl_logprobs=self.kl_logprobs[keep.to(self.kl_logprobs.device)])


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
