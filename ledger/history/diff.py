"""What tells two states apart: the facts in force, and the adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ledger.history.entries import Entry
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request

Fact = tuple[str, str]


@dataclass(frozen=True)
class FactChange:
    """A fact that two states answer differently, or that another entry answers.

    Attributes:
        kind: ``added``: only the new state edits it; ``dropped``: only the old one did, so the new state answers as
            the unedited model would; ``superseded``: both edit it, to other targets; ``moved``: to the same target,
            by another entry.
        subject: Its subject.
        relation: Its relation, or its prompt where the request names none.
        old: Request in force in the old state.
        new: Request in force in the new state.
        old_entry: Id of the entry that brought ``old``.
        new_entry: Id of the entry that brought ``new``.
    """

    kind: str
    subject: str
    relation: str
    old: Request | None = None
    new: Request | None = None
    old_entry: str | None = None
    new_entry: str | None = None


@dataclass(frozen=True)
class StateDiff:
    """Differences of two states.

    Attributes:
        old: Id of the old state's entry.
        new: Id of the new state's entry.
        facts: Changed facts, those of the new state first, in ledger order.
        adapters_added: Entries active in the new state only, in composing order.
        adapters_removed: Entries active in the old state only.
    """

    old: str
    new: str
    facts: tuple[FactChange, ...]
    adapters_added: tuple[Entry, ...] = field(default=())
    adapters_removed: tuple[Entry, ...] = field(default=())

    def count(self, kind: str) -> int:
        """How many facts changed in one way."""
        return sum(change.kind == kind for change in self.facts)


def facts_in_force(entries: Sequence[Entry], live: Mapping[str, Sequence[int]]) -> dict[Fact, tuple[str, Request]]:
    """Fact -> (entry id, request) of everything a state answers by edits.

    Args:
        entries: Active entries, in composing order.
        live: Entry id -> positions of its requests that nothing supersedes.
    """
    return {
        entry.requests[position].fact: (entry.id, entry.requests[position])
        for entry in entries
        for position in live.get(entry.id, ())
    }


def fact_changes(
    old: Mapping[Fact, tuple[str, Request]], new: Mapping[Fact, tuple[str, Request]]
) -> tuple[FactChange, ...]:
    """Changed facts of two states, as `facts_in_force` gives them."""
    changes = []
    for fact, (entry, request) in new.items():
        if fact not in old:
            changes.append(FactChange("added", *fact, new=request, new_entry=entry))
            continue
        before_entry, before = old[fact]
        if canonical(before.target_new) != canonical(request.target_new):
            kind = "superseded"
        elif before_entry != entry:
            kind = "moved"
        else:
            continue
        changes.append(FactChange(kind, *fact, before, request, before_entry, entry))
    for fact, (entry, request) in old.items():
        if fact not in new:
            changes.append(FactChange("dropped", *fact, old=request, old_entry=entry))
    return tuple(changes)


def diff_states(
    old: str,
    new: str,
    old_entries: Sequence[Entry],
    new_entries: Sequence[Entry],
    old_live: Mapping[str, Sequence[int]],
    new_live: Mapping[str, Sequence[int]],
) -> StateDiff:
    """The differences of two states, from their active entries and the requests in force."""
    before, after = {e.id for e in old_entries}, {e.id for e in new_entries}
    return StateDiff(
        old,
        new,
        fact_changes(facts_in_force(old_entries, old_live), facts_in_force(new_entries, new_live)),
        tuple(e for e in new_entries if e.id not in before),
        tuple(e for e in old_entries if e.id not in after),
    )
