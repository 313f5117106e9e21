"""Filters on an update by name: what of a layer's update is written. Each is a function, registered once."""

from __future__ import annotations

from seqedit.filters import nse, prune, rect, revive, sphere  # noqa: F401  (registers them)
from seqedit.filters.registry import FilterName, FilterSettings, UpdateFilter, filter_names, get_filter

__all__ = ["FilterName", "FilterSettings", "UpdateFilter", "filter_names", "get_filter"]
