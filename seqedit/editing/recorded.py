"""Settings as entries and adapters record them, completed by what the version that wrote them had no setting for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from seqedit.methods import get_method, method_names


def completed(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded method with all its settings: two records that mean the same are then equal.

    A setting that came later has the value that says what was done before it came, which need not be its default.

    Args:
        recorded: The method's name and settings; one that is not registered (``merge``) comes back as it is.
    """
    name = recorded.get("name")
    if name not in method_names():
        return dict(recorded)
    config = get_method(str(name)).config
    before = {f.name: config.unrecorded.get(f.name, f.default) for f in fields(config)}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in before.items()}
    return {**plain, **recorded}
