"""Every spelling of a field that is read, one table for each layout: what papers, READMEs and codes call it.

The first spelling that a row has is the one that is read, and the one that messages name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Spellings = Mapping[str, tuple[str, ...]]
"""A field as the code calls it -> every spelling of it, the most usual first."""

EASYEDIT: Spellings = {"rephrase_prompt": ("rephrase_prompt", "rephrase")}
"""EasyEdit's ``counterfact-edit.json`` says ``rephrase_prompt``, its KnowEdit files also ``rephrase``."""

TRACING: Spellings = {"prompt": ("relation", "prompt"), "target_new": ("target_false",)}
"""``NeelNanda/counterfact-tracing``: ``relation`` is the template, ``prompt`` the same filled in."""

RIPPLE: Spellings = {
    "previous_fact": ("previous_fact", "original_fact"),
    "Relation_Specificity": ("Relation_Specificity", "Relation_Specifity"),
}
"""RippleEdits: its code and files say the first; README and papers that follow it also the second."""


def spelled(row: Mapping[str, Any], field: str, spellings: Spellings) -> str:
    """The spelling of a field that a row has; where it has none, the usual one."""
    return next((name for name in spellings[field] if row.get(name) is not None), spellings[field][0])
