"""The registry of editing methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seqedit.distribution.plugins import METHODS, plugins
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.support.suggestions import did_you_mean

if TYPE_CHECKING:  # names and settings of methods are known without what computes
    from seqedit.methods.interface import Update, Workbench
    from seqedit.models.anatomy import Projection
    from seqedit.solver.factorizations import Factorizations
    from seqedit.solver.preconditioners import Preconditioner

Compute = Callable[["Workbench", Sequence[Request], Any], "Update"]
Precondition = Callable[["Factorizations", "Projection", Any], "Preconditioner"]


def weighted_cholesky(factors: Factorizations, projection: Projection, config: ClosedFormConfig) -> Preconditioner:
    """C = second_moment_weight * C0, shrunk: what all closed forms but AlphaEdit use."""
    return factors.cholesky(
        projection, weight=config.second_moment_weight, shrinkage=config.shrinkage, ridge=config.frobenius_weight
    )


@dataclass(frozen=True)
class Method:
    """An editing method.

    Attributes:
        name: What it is called on the command line.
        config: Its config class.
        compute: Computes a batch and leaves it written to the model.
        summary: One line of help.
        precondition: C^-1 of a layer without earlier keys, from a run's factorizations and the config; None for a
            method that is no closed form and needs no second moments.
    """

    name: str
    config: type[EditConfig]
    compute: Compute
    summary: str
    precondition: Precondition | None

    @property
    def needs_second_moments(self) -> bool:
        """Whether C0 of the edited layers has to be measured before, with most settings (`reads_second_moments`)."""
        return self.precondition is not None

    def reads_second_moments(self, config: EditConfig) -> bool:
        """Whether an update depends on C0: not where it is shrunk all the way to the identity and its scale cancels."""
        identity = self.precondition is weighted_cholesky and isinstance(config, ClosedFormConfig) and config.identity
        return self.needs_second_moments and not identity


_METHODS: dict[str, Method] = {}


def register(
    name: str, config: type[EditConfig], precondition: Precondition | None = weighted_cholesky
) -> Callable[[Compute], Compute]:
    """Decorator that adds a method; its docstring's first line becomes its summary."""

    def add(compute: Compute) -> Compute:
        if name in _METHODS:
            raise ValueError(f"method '{name}' is registered twice")
        summary = (compute.__doc__ or "").strip().splitlines()[0]
        _METHODS[name] = Method(name, config, compute, summary, precondition)
        return compute

    return add


def method_names() -> list[str]:
    """Registered names, those of other distributions included, sorted."""
    plugins(METHODS)
    return sorted(_METHODS)


def get_method(name: str) -> Method:
    """A method by its name.

    Raises:
        InputError: lists the legal names.
    """
    if name not in _METHODS:
        plugins(METHODS)  # loading them registers them
    if name not in _METHODS:
        known = method_names()
        raise InputError(f"unknown method '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
    return _METHODS[name]
