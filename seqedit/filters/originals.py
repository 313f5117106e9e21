"""The weights before all edits, and what filters need of their spectra, found once for a whole run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from seqedit.filters import spectra


class Originals:
    """Weights of the unedited model.

    Kept of each layer are the singular vectors that some filter asked for and its largest singular value, in float64
    on the layer's device; the weights themselves are the caller's.

    Args:
        weights: Module name -> (d_out, d_in) weight before all edits.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._dominant: dict[tuple[str, bool, float], tuple[Tensor, Tensor]] = {}
        self._largest: dict[str, float] = {}

    def hold(self, names: Iterable[str]) -> None:
        """Have the weights of some modules at hand; to be called before any of them is written."""
        for name in names:
            self._weights[name]

    def weight(self, name: str) -> Tensor:
        """(d_out, d_in) float64, on the module's device or the host where that knows no float64."""
        return doubled(self._weights[name])

    def dominant(self, name: str, energy: float, *, of_unit_rows: bool = False) -> tuple[Tensor, Tensor]:
        """Left and right singular vectors of the largest singular values.

        Args:
            name: The module.
            energy: Share of the sum of squared singular values (`seqedit.filters.spectra.dominant`).
            of_unit_rows: Of the weight with its rows scaled to length 1.

        Returns:
            (d_out, k) and (d_in, k), float64.
        """
        key = (name, of_unit_rows, energy)
        if key not in self._dominant:
            weight = self.weight(name)
            if of_unit_rows:
                weight = weight / weight.norm(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
            self._dominant[key] = spectra.dominant(weight, energy)
        return self._dominant[key]

    def largest(self, name: str) -> float:
        """The largest singular value."""
        if name not in self._largest:
            self._largest[name] = spectra.largest(self.weight(name))
        return self._largest[name]


def doubled(weight: Tensor) -> Tensor:
    """In float64, on its device or the host where that knows no float64 (Apple's GPUs)."""
    return (weight.cpu() if weight.device.type == "mps" else weight).double()
