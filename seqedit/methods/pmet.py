"""PMET (Li et al. 2024, arXiv 2308.08742): attention and FFN optimised together, only the FFN's part written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods.config import ClosedFormConfig, Spread, TargetPlace
from seqedit.methods.registry import register
from seqedit.support.config import setting

if TYPE_CHECKING:
    from seqedit.methods.interface import Update, Workbench


@dataclass(frozen=True, kw_only=True)
class PmetConfig(ClosedFormConfig):
    """PMET's settings."""

    target_place: ClassVar[TargetPlace] = "ffn output"

    spread: Spread = setting(
        "sqrt", "how the residual is distributed over the layers: single, even, sqrt, boundary or replay"
    )
    kl_factor: float = setting(1.0, "weight of the KL divergence at '{subject} is a'")
    stop_at_argmax: bool = setting(True, "a request is also done when all its target tokens are the argmax")
    argmax_kl: float | None = setting(0.01, "stop at the argmax only if the weighted KL is at most this")
    argmax_nll_factor: float = setting(0.1, "weight of the likelihood in steps after the target is the argmax")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_norm != "perturbed":
            raise InputError("setting 'init_norm' must be perturbed for 'pmet': each of its two outputs has its own")


@register("pmet", PmetConfig)
def pmet(bench: Workbench, requests: Sequence[Request], config: PmetConfig) -> Update:
    """Like MEMIT, with target values of the FFN alone and the square-root spread."""
    from seqedit.methods.closed_form import closed_form_edit
    from seqedit.targets.sites import Sublayers

    return closed_form_edit(bench, requests, config, config.a, site=Sublayers)
