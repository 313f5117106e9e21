"""AlphaEdit (Fang et al. 2025, arXiv 2410.02355): MEMIT confined to the null space of what is to be preserved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from seqedit.facts.requests import Request
from seqedit.methods.config import ClosedFormConfig
from seqedit.methods.registry import register
from seqedit.support.config import check_positive, setting

if TYPE_CHECKING:
    from seqedit.methods.interface import Update, Workbench
    from seqedit.models.anatomy import Projection
    from seqedit.solver.factorizations import Factorizations
    from seqedit.solver.preconditioners import Preconditioner


@dataclass(frozen=True, kw_only=True)
class AlphaEditConfig(ClosedFormConfig):
    """AlphaEdit's settings; second_moment_weight and shrinkage do not enter."""

    written_by: ClassVar[str | None] = "l2"
    filter_defaults: ClassVar[Mapping[str, float]] = {"strength": 0.5}

    nullspace_threshold: float = setting(0.02, "eigenvectors of C0 with eigenvalues below this span the null space")
    l2: float = setting(10.0, "weight of |Delta|^2 (L2)")
    protect_earlier: bool = setting(True, "let C grow by the keys of the ledger's active edits (cache_c)")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "nullspace_threshold", "l2")


def null_space(factors: Factorizations, projection: Projection, config: AlphaEditConfig) -> Preconditioner:
    """The inverse that AlphaEdit's objective has in place of C^-1."""
    return factors.null_space(projection, threshold=config.nullspace_threshold, l2=config.l2)


@register("alphaedit", AlphaEditConfig, null_space)
def alphaedit(bench: Workbench, requests: Sequence[Request], config: AlphaEditConfig) -> Update:
    """Least squares in the null space of C0, with the keys of all earlier edits protected."""
    from seqedit.methods.closed_form import closed_form_edit

    return closed_form_edit(bench, requests, config, config.a)
