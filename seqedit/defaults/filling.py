"""Where kept options take effect: where nothing was given, and nothing that says otherwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from seqedit.defaults.keys import known

_RIVALS: Mapping[str, tuple[str, ...]] = {
    "preset": ("hparams",),
    "hparams": ("preset",),
    # A preset names layers of its own: who gives one means those.
    "layers": ("preset", "hparams"),
    "spread": ("preset", "hparams"),
    "second-moments": ("text",),
    "text": ("second-moments",),
    # Examples belong to the tasks that were set with them.
    "num-fewshot": ("tasks",),
    "fewshot": ("tasks",),
}
"""Option -> options that say otherwise: where one of these is given, the kept one is not taken."""


def taken(kept: Mapping[str, Any], given: Collection[str], asked: Collection[str]) -> dict[str, Any]:
    """The kept options that take effect.

    Args:
        kept: What the ledger keeps (`Ledger.defaults`).
        given: Options that were given otherwise.
        asked: Options that there is a use for.
    """
    return {
        name: value
        for name, value in known(kept).items()
        if name in asked and name not in given and not any(rival in given for rival in _RIVALS.get(name, ()))
    }


def line_of(found: Mapping[str, Any]) -> str:
    """One line that says what was taken."""
    shown = ", ".join(f"{name} {'; '.join(v) if isinstance(v, list) else v}" for name, v in found.items())
    return f"from the ledger's configuration: {shown}"
