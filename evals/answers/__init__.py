"""What a model answers: multi-hop, ripple, real-life."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:  # names of the module that this package was
    from seqedit.distribution.moved import moved_names

    __getattr__ = moved_names(__name__)
