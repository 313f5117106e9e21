"""PRUNE (arXiv 2405.16821): the accumulated update is kept from raising the weight's condition number.

With W the weights before all edits, m their largest singular value, and T = sum_i s_i u_i v_i^T the sum of all updates,
the new one included, singular values above m are damped:

    F(s) = ln(s) - ln(m) + m for s > m, else s;     Delta_safe = sum_i F(s_i) u_i v_i^T - (the sum before)

The paper leaves the logarithm's base open to tuning; this is the natural one, as the public code has it. Published is
one restraint when all edits are done; here the sum is restrained with every batch, so that each is one adapter, and a
direction that stays above m is damped again in each. In a joint sequence every batch writes the whole sum anew, so that
is the published restraint of it, damped once. F grows values between m and a point above it where m < 1: those are
left as they are.

Delta_safe is Delta less one rank-one term for each value that was damped. T is what the weights differ by from the
original ones; in half precision their rounding is part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqedit.filters.registry import FilterSettings, register

if TYPE_CHECKING:
    from torch import Tensor

    from seqedit.filters.applied import Chosen, FilteredLayer


@register("prune")
def prune(layer: FilteredLayer, settings: FilterSettings) -> Chosen:
    """Singular values of all updates together damped where they exceed the original weight's largest (PRUNE)."""
    import torch

    from seqedit.filters.applied import Chosen
    from seqedit.filters.originals import doubled
    from seqedit.filters.spectra import above

    largest = layer.originals.largest(layer.name)

    def apply(B: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        total = (doubled(layer.weight) - layer.originals.weight(layer.name)).to(B.device) + B @ A
        if float(total.norm()) <= largest:  # no singular value is greater than the Frobenius norm
            return B, A
        U, values, V = above(total, largest)
        excess = values - damped(values, largest)
        over = excess > 0
        return torch.cat([B, -U[:, over] * excess[over]], dim=1), torch.cat([A, V[:, over].T])

    return Chosen(apply)


def damped(values: Tensor, largest: float) -> Tensor:
    """F of singular values above the largest of the original weight."""
    return (values / largest).log() + largest
