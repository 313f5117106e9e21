"""One layer of a closed form: solved alone or in a joint sequence, and what a filter leaves of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seqedit.filters import get_filter
from seqedit.filters.applied import Applied, Delta, FilteredLayer, Projected
from seqedit.filters.originals import Originals
from seqedit.methods.config import ClosedFormConfig
from seqedit.methods.interface import Filtered, LayerUpdate, Solved, Workbench
from seqedit.models.anatomy import Projection
from seqedit.solver.closed_form import solve
from seqedit.solver.preconditioners import Preconditioner
from seqedit.solver.sequence import Held, Undone, solve_in_sequence, undone, written_within


def filter_of(bench: Workbench, projection: Projection, keys: Tensor, config: ClosedFormConfig) -> Applied | None:
    """The filter that the settings ask for at a layer, before a batch with these (n, d_in) keys is written to it."""
    if config.update_filter == "none":
        return None
    originals = bench.originals
    if originals is None:
        originals = Originals({projection.name: projection.matrix().clone()})
    layer = FilteredLayer(projection.name, projection.matrix().clone(), originals, keys)
    return get_filter(config.update_filter).make(layer, config.filter_settings)


def alone(
    projection: Projection,
    precondition: Preconditioner,
    keys: Tensor,
    share: Tensor,
    a: float,
    *,
    applied: Applied | None = None,
    inside: bool = False,
    bare: Tensor | None = None,
) -> LayerUpdate:
    """A layer's update for its batch.

    Args:
        projection: The layer.
        precondition: C^-1.
        keys: (n, d_in) float64 the batch's keys.
        share: (d_out, n) what is asked of the layer at them.
        a: Relaxation.
        applied: The filter; None for none.
        inside: Solve within what the filter leaves, instead of filtering what is solved.
        bare: (1, d_in) key at which the constraint is met instead of the one that the direction comes from.
    """
    if inside and isinstance(applied, Projected) and applied.right is not None:
        precondition = precondition.confined(applied.right)
    B, A = solve(precondition, keys.T, share, a)
    if bare is not None:
        B = B * (A @ keys.T) / (A @ bare.T)
    solved = solved_by((B, A), A @ keys.T, keys.T, share, a)
    if applied is None:
        return LayerUpdate(projection, (B, A), keys, solved)
    delta = applied(B, A)
    return LayerUpdate(
        projection, delta, keys, replace(solved, written=written(delta, keys.T, share)),
        filtered=filtered_of((B, A), delta, solved),
    )  # fmt: skip


def in_sequence(
    projection: Projection,
    precondition: Preconditioner,
    held: Held | None,
    keys: Tensor,
    share: Tensor,
    a: float,
    *,
    applied: Applied | None = None,
    inside: bool = False,
) -> LayerUpdate:
    """A layer's update in a joint sequence (`seqedit.solver.sequence`): the state mended, then the batch.

    What a filter takes is not in the weights, so the next update finds it undone and asks for it again. With a linear
    filter both parts go through it on their own, so that a repair of which it leaves nothing costs no rank.

    Args:
        projection: The layer.
        precondition: C^-1, the keys of the facts in force protected in it.
        held: The facts in force and what was written; None for nothing yet.
        keys: (n, d_in) the batch's keys.
        share: (d_out, n) its residuals on the state as it is.
        a: Relaxation.
        applied: The filter; None for none.
        inside: The minimum among the updates that the filter leaves as they are, instead of filtering the free one.
    """
    # Rounded as they will be stored: what later batches read is then what was solved for.
    keys = keys.float().double()
    before = held.at(keys.T) if held is not None else torch.zeros_like(share)
    residuals = (share + before).float().double()
    share = residuals - before
    if inside and isinstance(applied, Projected) and applied.right is not None:
        confined = precondition.confined(applied.right)
        if held is not None:
            held = written_within(precondition, confined, applied.right, held)
        precondition = confined
    if held is None:
        left = Undone(share[:, :0], keys[:0], 0.0)
    else:
        left = undone(precondition, held, a)
    asked = share + left.at(keys.T)
    B, A = solve_in_sequence(precondition, left, keys.T, share, a)
    whole = torch.cat([-left.B, B], dim=1), torch.cat([left.A, A])
    solved = solved_by((B, A), A @ keys.T, keys.T, asked, a)
    if applied is None:
        return LayerUpdate(projection, whole, keys, solved, residuals.T)
    delta: Delta
    if isinstance(applied, Projected):
        mending, batch = left.mapped(applied), applied(B, A)
        delta = torch.cat([-mending[0], batch[0]], dim=1), torch.cat([mending[1], batch[1]])
    else:
        delta = applied(*whole)
    return LayerUpdate(
        projection, delta, keys, replace(solved, written=written(delta, keys.T, share)), residuals.T,
        filtered_of(whole, delta, solved),
    )  # fmt: skip


def solved_by(delta: Delta, D: Tensor, K: Tensor, R: Tensor, a: float) -> Solved:
    """How an update meets R (d_out, n) at the keys K (d_in, n), and how well the system D + a I was conditioned."""
    eigenvalues = torch.linalg.eigvalsh((D + D.T) / 2 + a * torch.eye(len(D), dtype=D.dtype, device=D.device))
    condition = float(eigenvalues[-1] / eigenvalues[0].clamp_min(eigenvalues[-1] * 1e-16))
    return Solved(written(delta, K, R), condition)


def written(delta: Delta, K: Tensor, R: Tensor) -> tuple[float, ...]:
    """For each request the share <Delta k, r> / <r, r> of R (d_out, n) that an update writes at K (d_in, n)."""
    square = (R * R).sum(0).clamp_min(torch.finfo(R.dtype).tiny)
    at = delta @ K if isinstance(delta, Tensor) else delta[0] @ (delta[1] @ K)
    return tuple(((at * R).sum(0) / square).tolist())


def filtered_of(whole: tuple[Tensor, Tensor], delta: Delta, solved: Solved) -> Filtered:
    """What a filter left of an update."""
    B, A = whole
    matrix = B @ A
    size = float(matrix.norm())
    kept = float(dense(delta).norm()) / size if size else 1.0
    return Filtered(kept, stored_rank(whole), stored_rank(delta), sum(solved.written) / len(solved.written))


def stored_rank(delta: Delta) -> int:
    """Rank of the adapter that stores it (`seqedit.editing.compute`)."""
    if isinstance(delta, Tensor):
        return int(delta.shape[0])
    B, A = delta
    return len(A) if len(A) <= min(len(B), A.shape[1]) else len(B)


def dense(delta: Delta) -> Tensor:
    """The (d_out, d_in) update."""
    return delta if isinstance(delta, Tensor) else delta[0] @ delta[1]


def summed(deltas: Sequence[Delta]) -> Delta:
    """The sum of some updates of one layer, in factors if all of them are."""
    factors = [delta for delta in deltas if not isinstance(delta, Tensor)]
    if len(factors) < len(deltas):
        return torch.stack([dense(delta) for delta in deltas]).sum(0)
    return torch.cat([f[0] for f in factors], dim=1), torch.cat([f[1] for f in factors], dim=0)
