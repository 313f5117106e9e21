"""The registry of filters: their names and settings are known without what computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from seqedit.filters.applied import Applied, FilteredLayer

FilterName = Literal["none", "revive", "sphere", "rect", "prune", "nse"]
"""What the setting ``update_filter`` can be; a test holds it to what is registered."""

Inside = Literal["never", "asked", "always"]


@dataclass(frozen=True)
class FilterSettings:
    """A filter's settings with its own values filled in; each filter reads those it names (`UpdateFilter.own`).

    Attributes:
        energy: Share of a weight's squared singular values, 0 to 1, whose directions an update is kept out of.
        share: Share of what is kept: of elements, or of activation.
        strength: How much of the components along those directions is removed, 0 to 1.
    """

    energy: float = 0.0
    share: float = 1.0
    strength: float = 1.0


Make = Callable[["FilteredLayer", FilterSettings], "Applied"]


@dataclass(frozen=True)
class UpdateFilter:
    """A filter.

    Attributes:
        name: What it is called in settings.
        summary: One line of help.
        make: The filter of one layer and one batch.
        own: Settings it reads -> their values where none are given.
        inside: Whether a batch can be solved within what the filter leaves: never, where it is asked for, or always
            (as published).
    """

    name: str
    summary: str
    make: Make
    own: Mapping[str, float] = field(default_factory=dict)
    inside: Inside = "never"


_FILTERS: dict[str, UpdateFilter] = {}


def register(name: str, *, own: Mapping[str, float] | None = None, inside: Inside = "never") -> Callable[[Make], Make]:
    """Decorator that adds a filter; its docstring's first line becomes its summary."""

    def add(make: Make) -> Make:
        if name in _FILTERS:
            raise ValueError(f"filter '{name}' is registered twice")
        summary = (make.__doc__ or "").strip().splitlines()[0]
        _FILTERS[name] = UpdateFilter(name, summary, make, dict(own or {}), inside)
        return make

    return add


def filter_names() -> list[str]:
    """Registered names, sorted."""
    return sorted(_FILTERS)


def get_filter(name: str) -> UpdateFilter:
    """A filter by its name; names come from a setting that knows only these."""
    return _FILTERS[name]
