"""Requests that say something about each other: contradictions, repetitions, paraphrases, shared keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request

Kind = Literal["contradicts", "supersedes", "repeats", "paraphrases", "shares a key"]
NEAR_KEY = 0.95
"""From this plain cosine on, two keys are all but one: an update writes nearly the same at both."""


@dataclass(frozen=True)
class InForceFact:
    """A fact that an active entry of the ledger brought and nothing supersedes.

    Attributes:
        entry: Id of the entry.
        request: The request.
    """

    entry: str
    request: Request


@dataclass(frozen=True)
class Pair:
    """Two requests that say something about each other.

    Attributes:
        kind: ``contradicts``: the same subject and relation (or the very same text) with another target, within the
            file, or the same text under another relation against a fact in force; ``supersedes``: a fact in force with
            another target; ``repeats``: with the same target; ``paraphrases``: the same subject and target in other
            words, with all but one key; ``shares a key``: another fact, with all but one key.
        position: The later request's place in the file, from 0.
        earlier: Place in the file of the earlier one; None where it is in force.
        entry: Id of the entry that brought the earlier one; None where it is in the file.
        request: The later request.
        other: The earlier request.
        cosine: Plain cosine of their keys.
    """

    kind: Kind
    position: int
    earlier: int | None
    entry: str | None
    request: Request
    other: Request
    cosine: float

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "kind": self.kind, "position": self.position, "earlier": self.earlier, "entry": self.entry,
            "request": self.request.to_dict(), "other": self.other.to_dict(), "cosine": round(self.cosine, 6),
        }  # fmt: skip

    def __str__(self) -> str:
        where = f"fact {self.earlier}" if self.entry is None else f"entry {self.entry[:12]}"
        return (
            f"fact {self.position} {self.kind} {where}: {self.request.text} -> {self.request.target_new} | "
            f"{self.other.text} -> {self.other.target_new} (cosine {self.cosine:.2f})"
        )


def kind_of(later: Request, earlier: Request, cosine: float, *, in_force: bool) -> Kind | None:
    """What a request says of one before it; None for nothing."""
    same_target = canonical(later.target_new) == canonical(earlier.target_new)
    if later.fact == earlier.fact or canonical(later.text) == canonical(earlier.text):
        if same_target:
            return "repeats"
        return "supersedes" if in_force and later.fact == earlier.fact else "contradicts"
    if cosine < NEAR_KEY:
        return None
    same_subject = canonical(later.subject) == canonical(earlier.subject)
    return "paraphrases" if same_target and same_subject else "shares a key"


def pairs_of(
    requests: Sequence[Request], within: Tensor, in_force: Sequence[InForceFact], across: Tensor
) -> tuple[Pair, ...]:
    """All pairs, within the file and against the facts in force; what contradicts first, then by cosine.

    Args:
        requests: n requests.
        within: (n, n) plain cosines of their keys.
        in_force: m facts in force.
        across: (n, m) plain cosines to their keys.
    """
    found = []
    for i, j in _candidates(requests, requests, within):
        if i > j and (kind := kind_of(requests[i], requests[j], float(within[i, j]), in_force=False)):
            found.append(Pair(kind, i, j, None, requests[i], requests[j], float(within[i, j])))
    for i, j in _candidates(requests, [fact.request for fact in in_force], across):
        old, cosine = in_force[j], float(across[i, j])
        if kind := kind_of(requests[i], old.request, cosine, in_force=True):
            found.append(Pair(kind, i, None, old.entry, requests[i], old.request, cosine))
    rank = ("contradicts", "supersedes", "repeats", "paraphrases", "shares a key")
    return tuple(sorted(found, key=lambda pair: (rank.index(pair.kind), -pair.cosine, pair.position)))


def _candidates(first: Sequence[Request], second: Sequence[Request], cosines: Tensor) -> list[tuple[int, int]]:
    """Pairs that are one fact by name or text, or have near keys."""
    near = {(int(i), int(j)) for i, j in (cosines >= NEAR_KEY).nonzero().tolist()} if cosines.numel() else set()
    places: dict[tuple[str, str], list[int]] = {}
    for j, request in enumerate(second):
        for name in {request.fact, ("", canonical(request.text))}:
            places.setdefault(name, []).append(j)
    for i, request in enumerate(first):
        for name in (request.fact, ("", canonical(request.text))):
            near |= {(i, j) for j in places.get(name, ())}
    return sorted(near)
