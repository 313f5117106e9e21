"""Decoys: subjects whose keys are mixed into an update in the place of nobody's fact, and how they are drawn."""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from seqedit.errors import InputError
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request

NO_DEFAULT = (
    "give subjects of the same kind as the edited ones; there is no default list, because decoys that everybody knows "
    "are taken out again"
)


@dataclass(frozen=True)
class DecoySettings:
    """How decoys are mixed in.

    Attributes:
        per_fact: Decoys for each fact.
        strength: Length of their part of a mixed key, relative to the fact's key; None for sqrt(per_fact), at which
            every decoy has the share of the fact itself. Published: 1 to 5, of one decoy a fact.
        seed: Of the draw. Who knows it and the list knows the decoys, so by default it is a new one.

    Raises:
        InputError: a number that there cannot be.
    """

    per_fact: int
    strength: float | None = None
    seed: int = field(default_factory=lambda: secrets.randbits(48))

    def __post_init__(self) -> None:
        if self.per_fact < 1:
            raise InputError(f"camouflage needs at least 1 decoy for each fact, got {self.per_fact}")
        if self.strength is not None and not 0 < self.strength < math.inf:
            raise InputError(f"the strength of a camouflage must be positive, got {self.strength:g}")

    @property
    def length(self) -> float:
        """The strength that is used."""
        return self.per_fact**0.5 if self.strength is None else self.strength


def draw(requests: Sequence[Request], subjects: Sequence[str], settings: DecoySettings) -> list[Request]:
    """The decoys of each fact, one fact after the other, each at the fact's own prompt.

    The list is gone through in random order again and again: no decoy is used twice before all were used once.

    Args:
        requests: The facts.
        subjects: Names of decoys; those of the facts' own subjects are left out, however they are capitalised.
        settings: How many for each fact, and the seed.

    Raises:
        InputError: too few are left.
    """
    edited = {canonical(request.subject).casefold() for request in requests}
    names = [name for name in dict.fromkeys(subjects) if canonical(name).casefold() not in edited]
    if len(names) < settings.per_fact:
        raise InputError(
            f"{len(names)} decoys that are not edited themselves are too few for {settings.per_fact} a fact; give a "
            "longer list"
        )
    source, drawn, queue = random.Random(settings.seed), list[Request](), list[str]()
    for request in requests:
        taken: list[str] = []
        while len(taken) < settings.per_fact:
            if not queue:
                queue = source.sample(names, len(names))
            name = queue.pop()
            if name not in taken:
                taken.append(name)
        drawn += [replace(request, subject=name) for name in taken]
    return drawn
