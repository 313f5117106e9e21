"""MEMIT (Meng et al. 2023, arXiv 2210.07229)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqedit.facts.requests import Request
from seqedit.methods.config import ClosedFormConfig
from seqedit.methods.registry import register

if TYPE_CHECKING:
    from seqedit.methods.interface import Update, Workbench


@dataclass(frozen=True, kw_only=True)
class MemitConfig(ClosedFormConfig):
    """MEMIT's settings; a = 1 is its least-squares objective."""


@register("memit", MemitConfig)
def memit(bench: Workbench, requests: Sequence[Request], config: MemitConfig) -> Update:
    """Least squares: memorise the batch and preserve the rest, over several layers."""
    from seqedit.methods.closed_form import closed_form_edit

    return closed_form_edit(bench, requests, config, config.a)
