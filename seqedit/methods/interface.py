"""What an editing method works with, and the result it hands back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seqedit.filters.originals import Originals
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import Anatomy, Projection
from seqedit.parallel.ranks import Ranks
from seqedit.solver.preconditioners import Preconditioner
from seqedit.solver.sequence import Held
from seqedit.targets.values import TargetValues


@dataclass(frozen=True, eq=False)
class Workbench:
    """A model in its current state, with what editing methods need.

    Attributes:
        model: The causal LM; methods write to it and `scratch` puts it back.
        tokenizer: Its fast tokenizer.
        parts: Its anatomy.
        contexts: Groups of context templates.
        precondition: C^-1 of a layer, earlier keys that are protected included; for the closed forms.
        max_tokens: Padded tokens of one forward pass.
        seed: Of whatever a method draws at random.
        target_values: (n, d) target values that a closed form is to use instead of optimising them.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.
        held: What is in force of a joint sequence at a layer; None for nothing.
        originals: Weights before all edits, for filters on the update; None where those before the batch are they.
        anchors: Layer -> norm of pilot facts' values there (`seqedit.targets.norms`), for the layers where target
            values are optimised; empty where none were measured.
        preserved: The norm of a layer's weights in the metric C of its closed form (`preserved_norm`).
        statistics: (3, d_in + d_out) statistics of the rows of earlier edits in force at a layer
            (`seqedit.methods.ultraedit.statistics`); None for none.
    """

    model: CausalLM
    tokenizer: Tokenizer
    parts: Anatomy
    contexts: Sequence[Sequence[str]]
    precondition: Callable[[Projection], Preconditioner]
    max_tokens: int = 8192
    seed: int = 0
    target_values: Tensor | None = None
    ranks: Ranks | None = None
    held: Callable[[Projection], Held | None] = lambda projection: None
    originals: Originals | None = None
    anchors: Mapping[int, float] = field(default_factory=dict)
    preserved: Callable[[Projection], float] = lambda projection: math.inf
    statistics: Callable[[Projection], Tensor | None] = lambda projection: None


@dataclass(frozen=True)
class Solved:
    """How well a layer's closed form meets what was asked of it.

    Attributes:
        written: For each request <Delta k, r> / <r, r>: the share of its residual r that the update writes at its key.
        condition: Condition number of the system D + a I.
        left: Dimensions that earlier facts left of an evolving null space, and those it had before any; None elsewhere.
    """

    written: tuple[float, ...]
    condition: float
    left: tuple[int, int] | None = None


@dataclass(frozen=True)
class Filtered:
    """What a filter left of a layer's update.

    Attributes:
        kept: Frobenius norm of what was written over that of what was solved for.
        rank_before: Rank of the adapter that would store what was solved for.
        rank: Rank of the one that stores what was written.
        written_before: Mean share of the residuals that was written before the filter.
    """

    kept: float
    rank_before: int
    rank: int
    written_before: float


@dataclass(frozen=True, eq=False)
class LayerUpdate:
    """Update of one FFN output projection.

    Attributes:
        projection: The module.
        delta: (d_out, n) and (n, d_in) factors, or the (d_out, d_in) update itself; float64.
        keys: (n, d_in) float64, the keys it was solved for; those of the edited model where nothing was solved.
        solved: How well the solution meets what was asked of the layer; None where nothing was solved.
        residuals: (n, d_out) what all updates of a joint sequence are to write at the keys; None outside of one.
        filtered: What a filter left of it; None without one.
        statistics: (3, d_in + d_out) of the batch's own rows, for methods that normalise over all edits; else None.
    """

    projection: Projection
    delta: tuple[Tensor, Tensor] | Tensor
    keys: Tensor
    solved: Solved | None = None
    residuals: Tensor | None = None
    filtered: Filtered | None = None
    statistics: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Update:
    """What a method computed for a batch.

    Attributes:
        layers: One update per edited layer, in order.
        target_values: (n, d) target values; the hidden states that were reached where none were asked for.
        losses: Last loss of each request's optimisation.
        updates: Optimisation updates each request took.
        optimised: The target values' optimisation, for the methods that have one.
        provenance: What else a method wants to record, as JSON types.
    """

    layers: tuple[LayerUpdate, ...]
    target_values: Tensor
    losses: tuple[float, ...]
    updates: tuple[int, ...]
    optimised: TargetValues | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def scratch(projections: Sequence[Projection]) -> Iterator[dict[str, Tensor]]:
    """Let a block overwrite weights; afterwards they are bit-equal to before, also after an error.

    Yields:
        Module name -> (d_out, d_in) copy of the weight as it was.
    """
    saved = {p.name: p.matrix().clone() for p in projections}
    try:
        yield saved
    finally:
        for projection in projections:
            projection.write(saved[projection.name])


def add_to_weight(projection: Projection, original: Tensor, total: Tensor) -> None:
    """Write ``original + total``, summed in double precision and rounded once to the parameter's dtype."""
    with torch.no_grad():
        projection.write((original.double() + total.to(original.device)).to(original.dtype))
