"""Rows of the target-value optimisation: prompts perturbed at their lookup token, and where they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqedit.forward.protocols import CausalLM
from seqedit.models.partial_run import Cut
from seqedit.targets.sites import Site
from seqedit.text.lookup import Prompt


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that are perturbed at their lookup token, the same number for each request, and the positions looked at.

    Attributes:
        cut: The rows, run up to where the site begins.
        per_request: Rows of one request; they stand side by side.
        lookup: (rows,) columns of the lookup tokens.
        row: (k,) rows of the positions whose logits are wanted: first all that predict targets, then the lookup tokens
            of the prompts without one.
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
        wanted = [(i, p.target_start + k) for i, p in enumerate(prompts) for k in range(len(p.target_ids))]
        wanted += [(i, p.lookup) for i, p in enumerate(prompts) if not p.target_ids]
        row, column = torch.tensor(wanted, device=device).T
        if cut.past is not None:  # its columns begin at the lookup tokens
            column, lookup = column - lookup[row], torch.zeros_like(lookup)
        return cls(cut, per_request, lookup, row, column)

    @property
    def request(self) -> Tensor:
        """(k,) request of each position."""
        return self.row // self.per_request

    def logits(self, model: CausalLM, site: Site, delta: Tensor | None) -> Tensor:
        """(k, vocabulary) logits with (requests, p, d) perturbations, at least float32."""
        spread = None if delta is None else delta.repeat_interleave(self.per_request, 0)
        logits = site.logits(model, self.cut, self.lookup, spread, self.row, self.column)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def select(self, keep: Tensor) -> tuple[Rows, Tensor]:
        """Only the rows of some requests, (r,) ascending indices; and the (k',) positions that are left."""
        offsets = torch.arange(self.per_request, device=keep.device)
        return self._take((keep.unsqueeze(1) * self.per_request + offsets).reshape(-1), self.per_request)

    def last_of_each(self) -> Rows:
        """Only the last row of each request."""
        rows = torch.arange(self.per_request - 1, self.lookup.shape[0], self.per_request, device=self.lookup.device)
        return self._take(rows, 1)[0]

    def _take(self, rows: Tensor, per_request: int) -> tuple[Rows, Tensor]:
        number = torch.full_like(self.lookup, -1)
        number[rows] = torch.arange(rows.shape[0], device=rows.device)
        left = (number[self.row] >= 0).nonzero().squeeze(1)
        cut, row = self.cut.rows(rows), number[self.row[left]]
        return Rows(cut, per_request, self.lookup[rows], row, self.column[left]), left
