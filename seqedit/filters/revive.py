"""REVIVE (arXiv 2601.11042): an update leaves the dominant singular subspace of the original weights alone.

With W = sum_i sigma_i u_i v_i^T, the weights before all edits, k is the smallest number of singular values with more
than a share tau of the energy, sum_i sigma_i^2. Of an update Delta = sum_ij alpha_ij u_i v_j^T the terms with i <= k
or j <= k are left out:

    Delta_safe = (I - U_k U_k^T) Delta (I - V_k V_k^T).

v_j runs over a basis of the whole input space, so what W does not read at all is left open. There is no public code;
this is the paper's formula as its summaries give it, with squared singular values for the energy. The paper's tau was
not to be had, and 0.5 is ours, SPHERE's share; results are said to depend on it little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqedit.filters.registry import FilterSettings, register

if TYPE_CHECKING:
    from seqedit.filters.applied import FilteredLayer, Projected


@register("revive", own={"energy": 0.5}, inside="asked")
def revive(layer: FilteredLayer, settings: FilterSettings) -> Projected:
    """Nothing along the dominant left and right singular vectors of the original weights (REVIVE)."""
    from seqedit.filters.applied import Projected
    from seqedit.solver.subspaces import Complement

    U, V = layer.originals.dominant(layer.name, settings.energy)
    device = layer.keys.device
    return Projected(Complement(U.to(device)), Complement(V.to(device)))
