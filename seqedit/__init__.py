"""Sequential knowledge editing with adapters, a ledger and evaluations.

The names most users need are here; they are imported on first use, so that ``import seqedit`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

from seqedit.version import __version__

_EXPORTS = {
    "Adapter": "seqedit.adapters.adapter",
    "BaseModel": "seqedit.adapters.adapter",
    "Record": "seqedit.facts.requests",
    "Request": "seqedit.facts.requests",
    "SecondMoments": "seqedit.moments.measure",
    "SeqeditError": "seqedit.errors",
    "anatomy": "seqedit.models.anatomy",
    "apply_adapter": "seqedit.editing.compute",
    "compute_adapter": "seqedit.editing.compute",
    "get_method": "seqedit.methods",
    "load_model": "seqedit.models.loading",
    "load_records": "seqedit.facts.loading",
    "method_names": "seqedit.methods",
    "Session": "seqedit.session.session",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'seqedit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
