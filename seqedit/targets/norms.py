"""Bounds and norms of target values: norm-anchored values (NAS), and a trust region in the key-whitened norm.

**Anchored norms** (NAS, arXiv 2602.02543; as in its public code). The value v = v0 + delta that the FFN is to put out,
v0 being what it puts out at the bare prompt, is rescaled after the optimisation to one norm m,

    v <- m v / |v|,    or v <- v0 where |v| > 2 m: nothing is then written for the request.

m is the mean norm of such values of pilot facts on the unedited model, the largest 5 % left out. Values whose norms do
not grow cannot make the weights grow, nor the grown weights the next values. What else is in the residual stream stays
as it is, so the change of the FFN's value is that of the target value.

**Trust region.** For one request with key k and residual r the closed form writes ``Delta = r (q + a)^-1 (C^-1 k)^T``
with ``q = k^T C^-1 k``. What that changes in the outputs that C preserves is

    |Delta|_C^2 = tr(Delta C Delta^T) = |r|^2 k^T C^-1 C C^-1 k / (a + q)^2 = |r|^2 q / (a + q)^2.

With C = weight C0 the ratio |Delta|_C / |W|_C is that of the root mean squares, over the text of C0, of what the update
adds to the layer's outputs and of these outputs themselves. A bound t on the ratio is a bound on |r|, and so on delta:

    |r| <= t |W|_C (a + q) / sqrt(q).

As q grows from 0 the bound falls to its least, at q = a, and grows again: a key that the text does not have (q large)
can be given a large value at no cost to the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqedit.errors import NumericsError

OUTLIER = 2.0
"""A value beyond so many anchor norms is given up (its public code; five for its ROME)."""
_LEFT_OUT = 0.05
"""Share of the pilot facts, those of the largest norms, that are left out of the mean."""


def anchored(at_rest: Tensor, delta: Tensor, norm: float) -> Tensor:
    """The perturbations that bring values to a norm.

    Args:
        at_rest: (n, d) values v0 that the FFN puts out.
        delta: (n, d) what was found to be added to them.
        norm: The norm m.

    Returns:
        (n, d) m v / |v| - v0 with v = v0 + delta; 0 where |v| is more than `OUTLIER` m.
    """
    values = at_rest + delta
    norms = values.norm(dim=1, keepdim=True)
    tiny = torch.finfo(norms.dtype).tiny
    moved = values * (norm / norms.clamp_min(tiny)) - at_rest
    return torch.where(norms > OUTLIER * norm, torch.zeros_like(delta), moved)


def anchor_norm(values: Tensor) -> float:
    """Mean norm of pilot values, (n, d), without the largest."""
    norms = values.double().norm(dim=1).sort().values
    if not bool(torch.isfinite(norms).all()):
        raise NumericsError("the values of the pilot facts are not finite; lower learning_rate")
    return float(norms[: len(norms) - int(_LEFT_OUT * len(norms))].mean())


def trust_limits(q: Tensor, a: float, bound: float, preserved: float) -> list[float]:
    """Largest norms of residuals within a trust region.

    Args:
        q: (n,) k^T C^-1 k of the requests' keys.
        a: Relaxation.
        bound: t, the largest |Delta|_C / |W|_C of a request alone.
        preserved: |W|_C.
    """
    q = q.double().clamp_min(torch.finfo(torch.float64).tiny)
    return [float(limit) for limit in bound * preserved * (a + q) / q.sqrt()]


def unit_limits(limits: Sequence[float], unit_of: Tensor, units: int) -> Tensor:
    """(units,) the least limit of the requests that share a value, each of a unit ``unit_of`` (requests,)."""
    least = torch.full((units,), math.inf, dtype=torch.float64, device=unit_of.device)
    given = torch.tensor(limits, dtype=torch.float64, device=unit_of.device)
    return least.scatter_reduce(0, unit_of, given, "amin")
