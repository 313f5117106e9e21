"""Subspace camouflage of one module's update (arXiv 2602.10134, section 5): other keys in the place of the edited ones.

The update of a closed form is ``Delta = T K^T M`` with ``M = C0^-1``, so the edited keys K span the rows of
``Delta C0``. The published defence takes mixed keys K~ = K + a K_d, K_d those of decoys, and the one update that is
spanned by them and equal at K: ``Delta K (K~^T M K)^-1 K~^T M``. Here the decoys' keys are first made orthogonal, in
the metric M, to every key at which nothing may change (the published code does so with each fact's own). Then
``K~^T M K = K^T M K``, nothing ill-conditioned is inverted, and the update is ``Delta + a T K_d^T M``: the old one and
what is zero at all these keys. Its rank does not grow.

The share of an edited key in the new row space is 1 / (1 + a^2), and the mean squared output on plain text grows by
1 + a^2: what hides an edit is what disturbs the model, whichever decoys are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqedit.adapters.delta import Delta, Dense, LowRank
from seqedit.errors import InputError

_RCOND = 1e-3
"""Singular values of the whitened keys below this share of the largest are the same key written twice."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """An update after mixing.

    Attributes:
        delta: The update.
        change: Largest change of what it writes at a protected key, relative to the largest that it writes at one.
        unmixed: Share of the old rows' length, in the metric, that no edited key explains; it stays as it was.
        growth: Mean squared output on plain text, relative to the old update's.
    """

    delta: Delta
    change: float
    unmixed: float
    growth: float


def mix(delta: Delta, keys: Tensor, protected: Tensor, decoys: Tensor, factor: Tensor, strength: float) -> Mixed:
    """Mix decoys into the rows of an update, and leave what it writes at some keys as it is.

    Args:
        delta: The update.
        keys: (n, d_in) edited keys.
        protected: (p, d_in) further keys at which it must not change.
        decoys: (n, m, d_in) keys of m decoys for each edited key.
        factor: (d_in, d_in) lower Cholesky factor of C0; everything is computed on its device.
        strength: Length of the decoys' part of a mixed key, relative to the edited key's.

    Raises:
        InputError: so many keys are protected that no direction is left for decoys.
    """
    device = factor.device
    rows = (delta.A if isinstance(delta, LowRank) else delta.delta).to(device, torch.float64)
    K = _whitened(factor, keys)
    held = torch.cat([K, _whitened(factor, protected)], dim=1)
    if held.shape[1] + len(keys) > len(factor):
        raise InputError(
            f"{held.shape[1]} keys must keep their outputs and {len(keys)} be hidden; of {len(factor)} directions that "
            "leaves too few for decoys. Camouflage fewer facts: export single entries"
        )
    basis = _span(held)
    pulled = _unit(_whitened(factor, decoys.flatten(0, 1))).unflatten(1, decoys.shape[:2]).sum(2)
    pulled = pulled - basis @ (basis.T @ pulled)
    pulled = _unit(pulled) * K.norm(dim=0) * strength

    old = factor.T @ rows.T  # (d_in, r): rows of Delta C0^1/2
    T = torch.linalg.pinv(K, rtol=_RCOND) @ old  # (n, r)
    new = old + pulled @ T
    changed = torch.linalg.solve_triangular(factor.T, new, upper=True).T  # (r, d_in)
    mixed: Delta
    if isinstance(delta, LowRank):
        mixed = LowRank.from_factors(delta.B.to(device, torch.float64), changed)
        weigh = torch.linalg.qr(delta.B.to(device, torch.float64), mode="r").R
    else:
        mixed = Dense(changed.to(torch.float32).contiguous().cpu())
        weigh = torch.eye(len(rows), dtype=torch.float64, device=device)
    everywhere = torch.cat([keys.to(factor), protected.to(factor)]).T
    before = _product(delta, everywhere)
    return Mixed(
        mixed,
        float((_product(mixed, everywhere) - before).norm(dim=0).max() / before.norm(dim=0).max().clamp_min(1e-30)),
        float(((old - K @ T) @ weigh.T).norm() / (old @ weigh.T).norm().clamp_min(1e-30)),
        float((new @ weigh.T).square().sum() / (old @ weigh.T).square().sum().clamp_min(1e-30)),
    )


def _product(delta: Delta, columns: Tensor) -> Tensor:
    if isinstance(delta, LowRank):
        return delta.B.to(columns) @ (delta.A.to(columns) @ columns)
    return delta.delta.to(columns) @ columns


def _whitened(factor: Tensor, keys: Tensor) -> Tensor:
    """(n, d_in) keys -> (d_in, n) columns in which lengths and angles are those of the metric C0^-1."""
    return torch.linalg.solve_triangular(factor, keys.to(factor).T, upper=False)


def _unit(columns: Tensor) -> Tensor:
    return columns / columns.norm(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)


def _span(columns: Tensor) -> Tensor:
    """An orthonormal basis of what some columns span, up to rounding."""
    left, values, _ = torch.linalg.svd(_unit(columns), full_matrices=False)
    return left[:, values > 1e-9 * values.max()]
