"""Editing methods by name. Each is a config class and a function, registered once."""

from __future__ import annotations

from seqedit.methods import alphaedit, emmet, evoedit, ft, lora, memit, pmet, rome  # noqa: F401  (registers them)
from seqedit.methods.mend import method as mend  # noqa: F401  (registers them)
from seqedit.methods.registry import Method, get_method, method_names
from seqedit.methods.ultraedit import method as ultraedit  # noqa: F401  (registers them)

__all__ = ["Method", "get_method", "method_names"]
