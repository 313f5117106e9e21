"""The command line: ``seqedit VERB ...``."""

from __future__ import annotations

from seqedit.cli.main import main

__all__ = ["main"]
