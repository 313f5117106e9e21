"""What a dry run says, alike in every verb: JSON with ``dry_run``, or lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from seqedit.cli.terminal import print_json, say


def tell_planned(plan: Mapping[str, Any], lines: Iterable[str], json_: bool) -> None:
    """Print what would be done.

    Args:
        plan: It as JSON types.
        lines: It in words.
        json_: Whether JSON is wanted.
    """
    if json_:
        print_json({**plan, "dry_run": True})
        return
    for line in lines:
        say(line)


def fact_lines(requests: Iterable[Any]) -> list[str]:
    """Facts, a line each."""
    return [f"  {request.text} -> {request.target_new}" for request in requests]
