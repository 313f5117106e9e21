"""What a batch says about facts that the state already answers: found before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.history.diff import Fact
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request


@dataclass(frozen=True)
class Overlap:
    """A request about a fact that an active entry edits already.

    Attributes:
        kind: ``supersedes``: the same fact with another target; ``repeats``: with the same target; ``contradicts``:
            another fact by its relation, but the very same text with another target, so that both stay in force.
        position: The request's place in the batch, from 0.
        request: The request.
        earlier: The request in force.
        entry: Id of the entry that brought it.
    """

    kind: str
    position: int
    request: Request
    earlier: Request
    entry: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.entry[:12]}: {self.request.text} -> {self.request.target_new} "
            f"(was {self.earlier.target_new})"
        )


def overlaps(requests: Sequence[Request], facts: Mapping[Fact, tuple[str, Request]]) -> list[Overlap]:
    """Where a batch touches facts in force.

    Args:
        requests: The batch.
        facts: The state's facts (`ledger.history.diff.facts_in_force`).
    """
    by_text = {canonical(request.text): (entry, request) for entry, request in facts.values()}
    found = []
    for position, request in enumerate(requests):
        if request.fact in facts:
            entry, earlier = facts[request.fact]
            kind = "repeats" if canonical(earlier.target_new) == canonical(request.target_new) else "supersedes"
            found.append(Overlap(kind, position, request, earlier, entry))
        elif (text := canonical(request.text)) in by_text:
            entry, earlier = by_text[text]
            if canonical(earlier.target_new) != canonical(request.target_new):
                found.append(Overlap("contradicts", position, request, earlier, entry))
    return found
