"""What other distributions add: methods, layouts and trackers, by entry points of their own."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from seqedit.errors import EnvironmentFailure

METHODS, LAYOUTS, TRACKERS = "seqedit.methods", "seqedit.layouts", "seqedit.trackers"


@cache  # what is installed does not change while a process runs, and every row of a fact file asks
def plugins(group: str) -> dict[str, Any]:
    """Name -> what it names, of every entry point of a group.

    Args:
        group: ``seqedit.methods``, ``seqedit.layouts`` or ``seqedit.trackers``.

    Raises:
        EnvironmentFailure: one cannot be loaded, or two have one name; names the distributions.
    """
    found: dict[str, Any] = {}
    by: dict[str, str] = {}
    for entry in entry_points(group=group):
        who = "?" if entry.dist is None else entry.dist.name
        if by.setdefault(entry.name, who) != who:
            raise EnvironmentFailure(
                f"'{entry.name}' of {group} comes from both {by[entry.name]} and {who}; uninstall one of them"
            )
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # a stranger's module may fail in any way
            raise EnvironmentFailure(
                f"'{entry.name}' of {group}, from {who}, cannot be loaded ({entry.value}: {error}); uninstall it"
            ) from error
    return found
