"""EMMET (Gupta et al. 2024, arXiv 2403.14236): batched editing under an equality constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqedit.facts.requests import Request
from seqedit.methods.config import ClosedFormConfig
from seqedit.methods.registry import register
from seqedit.support.config import setting

if TYPE_CHECKING:
    from seqedit.methods.interface import Update, Workbench


@dataclass(frozen=True, kw_only=True)
class EmmetConfig(ClosedFormConfig):
    """EMMET's settings."""

    a: float = setting(0.1, "added to the diagonal of D (emmet_lambda); 0 meets the constraint exactly")

    def relaxation(self, requests: int) -> float:
        """A single key needs no stabilisation: as published, D is then a positive number and EMMET is ROME.

        In a joint sequence no key is alone.
        """
        return 0.0 if requests == 1 and self.sequence == "separate" else self.a


@register("emmet", EmmetConfig)
def emmet(bench: Workbench, requests: Sequence[Request], config: EmmetConfig) -> Update:
    """Equality constraint for a whole batch, stabilised by a on the diagonal of D."""
    from seqedit.methods.closed_form import closed_form_edit

    return closed_form_edit(bench, requests, config, config.relaxation(len(requests)))
