"""EvoEdit (Lyu et al. 2025, arXiv 2510.13851): AlphaEdit in a null space that every edit leaves smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods.alphaedit import AlphaEditConfig
from seqedit.methods.registry import register
from seqedit.support.config import setting

if TYPE_CHECKING:
    from seqedit.methods.interface import Update, Workbench
    from seqedit.models.anatomy import Projection
    from seqedit.solver.factorizations import Factorizations
    from seqedit.solver.preconditioners import Preconditioner


@dataclass(frozen=True, kw_only=True)
class EvoEditConfig(AlphaEditConfig):
    """EvoEdit's settings; second_moment_weight and shrinkage do not enter."""

    protects_superseded: ClassVar[bool] = False

    nullspace_drop: float = setting(
        1e-6, "a key with at most this share of its null-space part left takes no direction out of the null space"
    )
    protect_earlier: bool = setting(True, "take the keys of the facts in force out of the null space")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1e-12 <= self.nullspace_drop < 1:
            raise InputError(f"setting 'nullspace_drop' must be between 1e-12 and 1, got {self.nullspace_drop:g}")

    def _check_joint(self) -> None:
        raise InputError(
            "sequence 'joint' cannot be combined with evoedit, whose batches write nothing at earlier facts' keys; "
            "choose alphaedit"
        )


def evolving_null_space(factors: Factorizations, projection: Projection, config: EvoEditConfig) -> Preconditioner:
    """The null space that earlier keys leave, as the inverse that stands in place of C^-1."""
    return factors.evolving_null_space(
        projection, threshold=config.nullspace_threshold, l2=config.l2, drop=config.nullspace_drop
    )


@register("evoedit", EvoEditConfig, evolving_null_space)
def evoedit(bench: Workbench, requests: Sequence[Request], config: EvoEditConfig) -> Update:
    """AlphaEdit in a null space that loses the keys of every edit, so that no later one writes anything at them."""
    from seqedit.methods.closed_form import closed_form_edit

    return closed_form_edit(bench, requests, config, config.a)
