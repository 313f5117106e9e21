"""Causes beside the symptoms: how far weights, preserved outputs and memorised values have drifted.

These are the two terms of the objective that the closed forms minimise (MEMIT, arXiv 2210.07229, eq. 4): the
preservation error on keys of plain text and the memorisation error on the keys of the edits, here of *all* edits on
the state that all of them led to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ledger import Entry
from seqedit.adapters.adapter import Adapter
from seqedit.errors import NumericsError
from seqedit.moments.second_moments import SecondMoments


def weight_drift(base: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Module name -> |W - W0| / |W0|, Frobenius norms in float64.

    Args:
        base: (d_out, d_in) weights of the unedited model.
        weights: Those of the state.
    """
    return {
        name: float((weights[name].double() - base[name].double()).norm() / base[name].double().norm())
        for name in weights
    }


def preservation_error(
    base: Mapping[str, Tensor], weights: Mapping[str, Tensor], moments: SecondMoments
) -> dict[str, float]:
    """Module name -> root mean square of |(W - W0) k| over plain text, relative to that of |W0 k|.

    E|M k|^2 = tr(M C0 M^T), so no text is run.

    Args:
        base: As for `weight_drift`.
        weights: As for `weight_drift`.
        moments: C0 of (some of) the modules; others are left out.
    """
    errors = {}
    for name in weights:
        if name not in moments.matrices:
            continue
        C = moments.matrices[name].double().to(weights[name].device)
        W0 = base[name].double()
        change = weights[name].double() - W0
        whole = ((W0 @ C) * W0).sum()
        errors[name] = float((((change @ C) * change).sum().clamp_min(0) / whole).sqrt())
    return errors


def memorisation_error(
    entries: Sequence[Entry], adapters: Sequence[Adapter], live: Mapping[str, Sequence[int]]
) -> float | None:
    """How much later edits have moved what earlier ones wrote, averaged over the facts in force.

    For a fact of entry i with key k it is |sum of the deltas after i, times k| / |delta of i, times k|: 0 where what
    was written is still read, 1 where it is moved by as much as the edit itself had moved it.

    Args:
        entries: The active entries, in composing order.
        adapters: Their adapters.
        live: Entry id -> positions of its requests that nothing supersedes.

    Returns:
        The mean over facts and modules; None where no entry has keys.
    """
    later: dict[str, Tensor] = {}
    total, count = 0.0, 0
    for entry, adapter in zip(reversed(entries), reversed(adapters), strict=True):
        positions = list(live.get(entry.id, ()))
        for name, delta in adapter.deltas.items():
            matrix = delta.dense()
            keys = adapter.keys.get(name)
            if keys is not None and len(keys) == len(adapter.requests) and positions:
                K = keys[positions].double().T
                own = (matrix @ K).norm(dim=0)
                moved = (later[name] @ K).norm(dim=0) if name in later else torch.zeros_like(own)
                known = own > 0
                total += float((moved[known] / own[known]).sum())
                count += int(known.sum())
            later[name] = matrix if name not in later else later[name] + matrix
    return total / count if count else None


def drift_of(
    entries: Sequence[Entry],
    adapters: Sequence[Adapter],
    live: Mapping[str, Sequence[int]],
    base: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    moments: SecondMoments | None,
) -> dict[str, Any]:
    """Everything above of one state, as JSON types; averages over modules, and the modules' own values.

    Returns:
        {"weight_norm", "preservation" (where C0 is known), "memorisation", "modules": {name: {...}}}

    Raises:
        NumericsError: the weights are not finite.
    """
    norms = weight_drift(base, weights)
    for name, norm in norms.items():
        if not math.isfinite(norm):
            raise NumericsError(f"the weights of '{name}' are not finite (NaN or infinity)")
    kept = {} if moments is None else preservation_error(base, weights, moments)
    modules = {
        name: {"weight_norm": norm, **({"preservation": kept[name]} if name in kept else {})}
        for name, norm in norms.items()
    }
    return {
        "weight_norm": _mean(list(norms.values())),
        **({"preservation": _mean(list(kept.values()))} if kept else {}),
        "memorisation": memorisation_error(entries, adapters, live),
        "modules": modules,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
