"""SPHERE (arXiv 2510.01172): an update avoids the principal hyperspherical directions of the original neurons.

The rows of W, one per output, scaled to length 1, are points on a sphere: What. U spans the eigenvectors of
What^T What / d_out with the largest eigenvalues, the smallest number of them with more than a share eta of the sum, and

    Delta_safe = Delta (I - alpha U U^T).

alpha = 1 is a projection; published are eta = 0.5 and alpha = 0.8 (0.5 on AlphaEdit). W are the weights before all
edits, as the paper has it. The public code takes those before each batch: for the first batch the same. Rows of zeros
stay zero, where the public code adds 1e-8 to every length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqedit.filters.registry import FilterSettings, register

if TYPE_CHECKING:
    from seqedit.filters.applied import FilteredLayer, Projected


@register("sphere", own={"energy": 0.5, "strength": 0.8}, inside="asked")
def sphere(layer: FilteredLayer, settings: FilterSettings) -> Projected:
    """Little or nothing along the principal directions of the original weight's normalised rows (SPHERE)."""
    from seqedit.filters.applied import Projected
    from seqedit.solver.subspaces import Complement

    _, V = layer.originals.dominant(layer.name, settings.energy, of_unit_rows=True)
    return Projected(right=Complement(V.to(layer.keys.device)), strength=settings.strength)
