"""NSE's neuron masks (arXiv 2410.04045): only the FFN neurons that the batch activates most are changed.

A neuron is an entry of the key, a column of the FFN output projection. Its score is its activation |k| summed over the
batch's keys; sorted by it, the neurons are taken as long as their sum is at most a share p of all. With I the neurons
taken, the batch is solved for these columns alone:

    Delta[:, I] = R (D_I + a I)^-1 (C_II^-1 K_I)^T,   D_I = K_I^T C_II^-1 K_I;      all other columns 0,

which is the minimum over updates of these columns, as in the public code; p = 0.8 is its value for GPT-J (for GPT2-XL
and Llama-3 it has 1, all neurons). NSE's other parts, target values from the original weights and repeated rounds over
the layers, are not part of the filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqedit.filters.registry import FilterSettings, register

if TYPE_CHECKING:
    from torch import Tensor

    from seqedit.filters.applied import FilteredLayer, Projected


@register("nse", own={"share": 0.8}, inside="always")
def nse(layer: FilteredLayer, settings: FilterSettings) -> Projected:
    """Only the FFN neurons with the highest activation at the batch's keys (NSE)."""
    from seqedit.filters.applied import Projected
    from seqedit.solver.subspaces import Coordinates

    return Projected(right=Coordinates(neurons(layer.keys, settings.share)))


def neurons(keys: Tensor, share: float) -> Tensor:
    """(d_in,) which neurons are changed, for (n, d_in) keys; at least one is."""
    import torch

    scores = keys.abs().sum(0)
    order = scores.argsort(descending=True, stable=True)
    # Rounding of a sum must not leave the last one out where all are wanted.
    count = len(scores) if share == 1 else int((scores[order].cumsum(0) <= share * scores.sum()).sum())
    chosen = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    chosen[order[: max(count, 1)]] = True
    return chosen
