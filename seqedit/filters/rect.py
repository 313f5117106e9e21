"""RECT (arXiv 2401.04700): only the elements that change the most, relative to the weight, are written.

    Delta_safe[i, j] = Delta[i, j] where |Delta[i, j] / W[i, j]| is among the largest, else 0

The share that is kept is 40 % as published. As in the public code W are the weights before the batch, and the
threshold is the m-th smallest relative change with m = floor((1 - share) d_out d_in): an element that equals it stays.
A weight of 0 counts as changed without bound; the public code adds 1e-8 to every weight, which says the same.

What is left has full rank in general, so it is kept and stored as a matrix: its zeros stay exact zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqedit.filters.registry import FilterSettings, register

if TYPE_CHECKING:
    from torch import Tensor

    from seqedit.filters.applied import Chosen, FilteredLayer


@register("rect", own={"share": 0.4})
def rect(layer: FilteredLayer, settings: FilterSettings) -> Chosen:
    """Only the elements with the largest change relative to the weight (RECT)."""
    import torch

    from seqedit.filters.applied import Chosen
    from seqedit.filters.originals import doubled

    def apply(B: Tensor, A: Tensor) -> Tensor:
        delta = B @ A
        weight = doubled(layer.weight).to(delta.device).abs()
        relative = delta.abs() / weight.clamp_min(torch.finfo(weight.dtype).tiny)
        below = int((1 - settings.share) * relative.numel())
        if below < 1:
            return delta
        threshold = relative.flatten().kthvalue(below).values
        return torch.where(relative >= threshold, delta, torch.zeros_like(delta))

    return Chosen(apply)
