"""History of edits: entries, branches, a store of adapters, and states composed from them.

The names below are loaded when they are first used: importing the package needs neither torch nor a database driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import seqedit.distribution.moved  # noqa: F401  (old import paths)

if TYPE_CHECKING:
    from ledger.errors import BranchMoved as BranchMoved
    from ledger.errors import Conflict as Conflict
    from ledger.history.entries import Entry as Entry
    from ledger.ledger import Ledger as Ledger
    from ledger.problems import Code as Code
    from ledger.problems import Problem as Problem
    from seqedit.adapters.composition import Composition as Composition

__distribution__ = "seqedit"

_HOMES = {
    "BranchMoved": "ledger.errors",
    "Conflict": "ledger.errors",
    "Composition": "seqedit.adapters.composition",
    "Entry": "ledger.history.entries",
    "Ledger": "ledger.ledger",
    "Code": "ledger.problems",
    "Problem": "ledger.problems",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ledger' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
