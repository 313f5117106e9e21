"""Where what can be computed again is kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def default_cache_dir() -> Path:
    """Where cached second moments live: ``SEQEDIT_CACHE``, or the user's cache directory."""
    return Path(os.environ.get("SEQEDIT_CACHE") or platformdirs.user_cache_dir("seqedit"))
