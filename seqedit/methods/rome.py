"""ROME (Meng et al. 2022, arXiv 2202.05262): one request at a time under an equality constraint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods.config import ClosedFormConfig, Spread
from seqedit.methods.registry import register
from seqedit.support.config import setting
from seqedit.targets.config import InitNorm

if TYPE_CHECKING:
    from seqedit.filters.applied import Delta
    from seqedit.methods.interface import Filtered, LayerUpdate, Update, Workbench
    from seqedit.targets.values import TargetValues


@dataclass(frozen=True, kw_only=True)
class RomeConfig(ClosedFormConfig):
    """ROME's settings; the weight of C0 cancels, and one layer is the published form."""

    unrecorded: ClassVar[Mapping[str, Any]] = {"init_norm": "perturbed"}
    written_by: ClassVar[str | None] = None
    solved_together: ClassVar[bool] = False

    a: float = setting(0.0, "relaxation of the equality constraint; 0 is ROME")
    spread: Spread = setting(
        "single", "how the residual is distributed over the layers: single, even, sqrt, boundary or replay"
    )
    init_norm: InitNorm = setting("ffn", "what |init| is the norm of: the perturbed output, or the FFN's (ROME)")
    published_keys: bool = setting(
        False, "divide by the bare prompt's key, all templates counting alike in the other, as before R-ROME"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.published_keys and self.trust_region is not None:
            raise InputError("setting 'trust_region' is of the update at one key, and published_keys takes two")


@register("rome", RomeConfig)
def rome(bench: Workbench, requests: Sequence[Request], config: RomeConfig) -> Update:
    """Equality constraint, one request after the other, each a rank-one update."""
    import torch

    from seqedit.methods.closed_form import closed_form_edit
    from seqedit.methods.interface import LayerUpdate, Solved, Update
    from seqedit.methods.one_layer import summed

    # Each request sees the ones before it already written; the batch's update is the sum of theirs. One and the same
    # averaged key is used everywhere, as in R-ROME (arXiv 2403.07175): mixing two kinds of keys made ROME collapse.
    # The first public code mixes them, with all templates counting alike: to compare with.
    if config.published_keys:
        bench = replace(bench, contexts=[[template for group in bench.contexts for template in group]])
    given = [None] * len(requests) if bench.target_values is None else bench.target_values.split(1)
    singles = [
        closed_form_edit(bench, [request], config, config.a, target_values=z, met_at_bare=config.published_keys)
        for request, z in zip(requests, given, strict=True)
    ]
    layers = []
    for parts in zip(*(single.layers for single in singles), strict=True):
        delta = summed([part.delta for part in parts])
        solved = [part.solved for part in parts if part.solved is not None]
        together = Solved(tuple(s for one in solved for s in one.written), max(one.condition for one in solved))
        keys = torch.cat([part.keys for part in parts], dim=0)
        layers.append(LayerUpdate(parts[0].projection, delta, keys, together, filtered=_filtered(parts, delta)))
    return Update(
        tuple(layers),
        torch.cat([single.target_values for single in singles]),
        tuple(loss for single in singles for loss in single.losses),
        tuple(count for single in singles for count in single.updates),
        _together([single.optimised for single in singles if single.optimised is not None]),
    )


def _filtered(parts: Sequence[LayerUpdate], delta: Delta) -> Filtered | None:
    """What a filter left of all requests' updates of a layer, of norms and shares their mean."""
    from seqedit.methods.interface import Filtered
    from seqedit.methods.one_layer import stored_rank

    found = [part.filtered for part in parts if part.filtered is not None]
    if not found:
        return None
    return Filtered(
        sum(one.kept for one in found) / len(found),
        sum(one.rank_before for one in found),
        stored_rank(delta),
        sum(one.written_before for one in found) / len(found),
    )


def _together(found: Sequence[TargetValues]) -> TargetValues | None:
    import torch

    from seqedit.targets.values import TargetValues

    if not found:
        return None
    return TargetValues(
        torch.cat([one.values for one in found]),
        torch.cat([one.initial for one in found]),
        tuple(loss for one in found for loss in one.losses),
        tuple(count for one in found for count in one.updates),
        tuple(reached for one in found for reached in one.reached),
        bounded=tuple(bounded for one in found for bounded in one.bounded),
    )
