"""Cherry-picks: entries of other branches, or ones that are no longer in force, once more on the current state.

Nothing here needs a model until something is solved, so nothing heavy is imported before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ledger.history.entries import Entry
from seqedit.errors import InputError

if TYPE_CHECKING:
    from ledger.ledger import Ledger
    from seqedit.session.session import Session

How = Literal["delta", "solve"]
HOWS: tuple[How, ...] = ("delta", "solve")


@dataclass(frozen=True)
class Pick:
    """One entry that is to be taken over.

    Attributes:
        entry: The entry.
        live: Positions of the requests that are taken over.
        overlaps: What they supersede, repeat or contradict of the state, as lines.
    """

    entry: Entry
    live: tuple[int, ...]
    overlaps: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a plan tells it."""
        return {
            "entry": self.entry.id, "operation": self.entry.operation, "method": self.entry.method.get("name"),
            "message": self.entry.message, "requests": len(self.live),
            "left_out": len(self.entry.requests) - len(self.live),
            "facts": [self.entry.requests[position].to_dict() for position in self.live],
            "overlaps": list(self.overlaps),
        }  # fmt: skip


def plan_picks(ledger: Ledger, revs: Sequence[str], how: str = "delta", *, branch: str | None = None) -> list[Pick]:
    """What a cherry-pick would do; nothing is computed or written, and what it would refuse is refused.

    Args:
        ledger: The ledger.
        revs: The entries, in the order in which they are to compose.
        how: ``delta``: each entry's adapter as it is, with all its facts; ``solve``: its stored target values, solved
            for on the state that it comes to. What a later one of the entries teaches again is then left out, as a
            merge leaves out what is superseded.
        branch: The branch to extend; by default HEAD's.

    Raises:
        InputError: no entry or an unknown ``how``; one that is named twice, adds no adapter, or is in force already;
            with ``solve`` one that has no target values.
    """
    if how not in HOWS:
        raise InputError(f"entries are picked by one of {', '.join(HOWS)}, got {how!r}")
    if not revs:
        raise InputError("name at least one entry to cherry-pick")
    state = ledger.head() if branch is None else ledger.branch_entry(branch)
    active = set(ledger.active_ids(state))
    entries = [ledger.entry(rev) for rev in revs]
    for position, entry in enumerate(entries):
        if entry.id in {e.id for e in entries[:position]}:
            raise InputError(f"entry {entry.id[:12]} is named twice")
        if entry.id in active:
            raise InputError(f"entry {entry.id[:12]} is in force here already: nothing to cherry-pick")
        if entry.adapter is None:
            raise InputError(f"entry {entry.id[:12]} ({entry.operation}) adds no adapter: nothing to cherry-pick")
        if how == "solve":
            _check_method(entry)
    if how == "delta":
        ledger.check_cherry_pick([entry.id for entry in entries], branch)
    last = {request.fact: entry.id for entry in entries for request in entry.requests}
    picks = []
    for entry in entries:
        live = tuple(i for i, r in enumerate(entry.requests) if how == "delta" or last[r.fact] == entry.id)
        if not live:
            raise InputError(f"entry {entry.id[:12]}: the other entries teach all its facts again; leave it out")
        told = ledger.overlaps([entry.requests[i] for i in live], state)
        picks.append(Pick(entry, live, tuple(map(str, told))))
    return picks


def cherry_pick(
    session: Session | None,
    ledger: Ledger,
    revs: Sequence[str],
    how: str = "delta",
    *,
    message: str | None = None,
    author: str | None = None,
    reason: str = "",
    when: str | None = None,
) -> list[Entry]:
    """Take entries over, one after another, as edits on top of the current state; each names where it comes from.

    Args:
        session: Needed for ``solve``, which computes.
        ledger: The ledger.
        revs: The entries.
        how: As for `plan_picks`.
        message: Message of every new entry; None for that of the entry that it comes from.
        author: Its author; None likewise.
        reason: Why; kept in every new entry.
        when: ISO 8601 UTC; now by default.

    Raises:
        InputError: as `plan_picks`.
        Conflict: another writer extended the branch meanwhile; with a session, `BranchMoved`.
    """
    if session is not None:
        session.check_unmoved()
        revs = [session.named(rev) for rev in revs]
    elif how == "solve":
        raise InputError("picking by 'solve' needs the model")
    made: list[Entry] = []
    said: dict[str, Any] = {"message": message, "author": author, "reason": reason}
    for pick in plan_picks(ledger, revs, how, branch=None if session is None else session.branch):
        if session is None:
            parent = made[-1].id if made else ledger.head()
            made.append(ledger.cherry_pick(pick.entry.id, parent=parent, time=when, **said))
        elif how == "delta":
            made.append(_over(session, pick, when, said))
        else:
            made.append(_solved(session, pick, when, said))
    return made


def _over(session: Session, pick: Pick, when: str | None, said: Mapping[str, Any]) -> Entry:
    return session.extend(
        lambda branch, tip: session.ledger.cherry_pick(pick.entry.id, parent=tip, branch=branch, time=when, **said)
    )


def _solved(session: Session, pick: Pick, when: str | None, said: Mapping[str, Any]) -> Entry:
    """An entry's facts for their stored target values, solved for on the session's own state."""
    from seqedit.session.entries import diagnosis_scores, method_of

    entry, ledger = pick.entry, session.ledger
    source = ledger.adapter(entry)
    if source.target_values is None:
        raise InputError(f"entry {entry.id[:12]} has no target values; take its adapter over with --how delta")
    method, config = method_of(entry)
    adapter = session.compute_on(
        ledger.active(session.tip), [entry.requests[i] for i in pick.live], method, config,
        context_templates=source.provenance.get("context_templates"), seed=int(source.provenance.get("seed") or 0),
        target_values=source.target_values[list(pick.live)],
    )  # fmt: skip
    return session.extend(
        lambda branch, tip: ledger.append(
            adapter, parent=tip, branch=branch, time=when, origin=entry.id, reason=said["reason"],
            message=entry.message if said["message"] is None else said["message"],
            author=entry.author if said["author"] is None else said["author"], scores=diagnosis_scores(adapter),
            facts_file=entry.facts_file,
        )
    )  # fmt: skip


def _check_method(entry: Entry) -> None:
    """Refuse to solve for what an entry's method has no target values of."""
    from seqedit.methods import get_method
    from seqedit.session.entries import method_of

    name, _ = method_of(entry)
    if not get_method(name).needs_second_moments:
        raise InputError(
            f"entry {entry.id[:12]} ({name}) has no target values that were solved for; take its adapter over with "
            "--how delta, or edit its facts again"
        )
