"""Replaying a history: recompute what follows a change, on another base or in another order.

The new history is built on a branch of its own, one durable entry at a time; only when it is complete does the
branch itself move, and `undo` moves it back. So an interrupted rebase loses nothing and is taken up with ``resume``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ledger import Entry
from ledger.errors import BranchMoved, Conflict
from ledger.history.entries import utc_now
from ledger.history.rewrites import rewrite_of
from ledger.ledger import Ledger
from seqedit.editing.recorded import completed
from seqedit.errors import InputError
from seqedit.scoring.state_scores import scores_to_copy
from seqedit.session.entries import diagnosis_scores, inherited, method_of

if TYPE_CHECKING:
    from seqedit.adapters.adapter import Adapter
    from seqedit.session.session import Session

PREFIX = "rebase/"
NOTE = "rebase"
"""Operation of an entry that only says what a rebase dropped."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What a replay does with one entry.

    Attributes:
        entry: The entry of the old history.
        action: ``keep``: it stands on the same history as before, so it is itself part of the new one; ``reuse``: its
            adapter was computed on the very same state; ``recompute``; or ``copy``: a merge of deltas, which no
            method can compute again and which is taken over as it is.
    """

    entry: Entry
    action: str


@dataclass(frozen=True)
class RebasePlan:
    """A replay, before anything is computed.

    Attributes:
        branch: The branch that will move.
        head: Where it is.
        start: Id of the entry that the new history begins after.
        steps: What is done, in order.
        state: Id of the newest entry of ``head``'s history that is more than a note of what an earlier rebase dropped;
            ``head`` itself, where that is not given.
    """

    branch: str
    head: str
    start: str
    steps: tuple[Step, ...]
    state: str | None = None

    @property
    def changes(self) -> bool:
        """Whether the branch would move at all."""
        kept = [s.entry.id for s in self.steps if s.action == "keep"]
        return len(kept) < len(self.steps) or (kept[-1] if kept else self.start) not in (self.head, self.state)


def computed_on(ledger: Ledger, entry: Entry) -> tuple[str, ...]:
    """Digests of the adapters that made up the state an entry's adapter was computed on."""
    active = ledger.active(entry.parents[0])
    if entry.targets:
        places = [position for position, e in enumerate(active) if e.id in entry.targets]
        active = [e for e in active[: max(places)] if e.id not in entry.targets]
    return tuple(str(e.adapter) for e in active)


def plan_rebase(ledger: Ledger, *, onto: str | None = None, order: Sequence[str] | None = None) -> RebasePlan:
    """What a rebase would do; nothing is computed or written.

    Args:
        ledger: The ledger.
        onto: Revision to replay on: the entries of HEAD's state that are not part of its state follow it. By default
            the root: reverts, swaps and merges are then gone from the history, and their effect is in it.
        order: All or some of the active entries; those named take the places they have together, in this order.

    Raises:
        InputError: an entry of ``order`` is not active, or is named twice.
    """
    branch, head = ledger.position()
    active = ledger.active(head)
    if order is not None:
        active = reordered(ledger, active, order)
    if onto is None:
        start, earlier = ledger.root(), []
    else:
        start = ledger.resolve(onto)
        earlier = ledger.active(start)
    there = {e.adapter for e in earlier}
    wanted = [e for e in active if e.adapter not in there]
    history = {e.id: e for e in ledger.log(head)}

    def follows(parent: str, tip: str) -> bool:
        # A note of what an earlier rebase dropped changes no state, so it stands between no two entries.
        while parent != tip and parent in history and history[parent].operation == NOTE:
            parent = history[parent].parents[0]
        return parent == tip

    steps: list[Step] = []
    state = tuple(str(e.adapter) for e in earlier)
    tip, known = start, True  # known: nothing was recomputed yet, so the new state's digests are the old ones
    for entry in wanted:
        if known and entry.operation == "edit" and entry.id in history and follows(entry.parents[0], tip):
            action, tip = "keep", entry.id
        elif known and computed_on(ledger, entry) == state:
            action, tip = "reuse", ""
        else:
            action = "recompute" if _computable(entry) else "copy"
            known, tip = action == "copy", ""
        steps.append(Step(entry, action))
        state = (*state, str(entry.adapter))
    kept = [s.entry.id for s in steps if s.action == "keep"]
    end = kept[-1] if kept else start
    return RebasePlan(branch, head, end, tuple(steps), end if follows(head, end) else head)


def reordered(ledger: Ledger, active: Sequence[Entry], order: Sequence[str]) -> list[Entry]:
    """The active entries, with those named in the given order at the places they have together."""
    named = [ledger.entry(rev) for rev in order]
    by_id = {e.id: e for e in active}
    for entry in named:
        if entry.id not in by_id:
            raise InputError(f"entry {entry.id[:12]} is not active in HEAD's state; see log")
    ids = [e.id for e in named]
    if len(set(ids)) < len(ids):
        raise InputError("an entry is named twice in the new order")
    places = iter(ids)
    return [by_id[next(places)] if e.id in set(ids) else e for e in active]


def rebase(
    session: Session,
    plan: RebasePlan,
    *,
    resume: bool = False,
    message: str = "rebase",
    on_step: Callable[[Step, Entry], None] | None = None,
    author: str = "",
    reason: str = "",
    operation: str | None = None,
) -> str:
    """Carry out a plan and move the branch.

    The last entry that it makes keeps what became of the old history (`ledger.history.rewrites`); where it makes none,
    because all that is in force stays as it is, a note of its own does.

    Args:
        session: Model and ledger.
        plan: What to do (`plan_rebase`).
        resume: Go on with one that was interrupted.
        message: Line of the reflog, and message of what the entry keeps.
        on_step: Called with every step that is done and the new entry.
        author: Who does it.
        reason: Why.
        operation: ``rebase`` or ``reorder``; by default what ``message`` begins with.

    Returns:
        Id of the entry that the branch is at now.

    Raises:
        InputError: an interrupted rebase is there and ``resume`` is not set, or it was another one.
        BranchMoved: another writer moved the branch meanwhile; the new history is kept for ``resume``.
    """
    ledger = session.ledger
    found = ledger.branches().get(plan.branch)
    if found != plan.head:  # before minutes are spent
        raise BranchMoved(plan.branch, plan.head, found)
    work = PREFIX + plan.branch
    todo = [step for step in plan.steps if step.action != "keep"]
    done = _begun(ledger, work, plan, todo, resume)
    name = operation or ("reorder" if message.startswith("reorder") else NOTE)

    def kept(last: Step | None) -> dict[str, Any]:
        pairs = [(step.entry.id, new.id) for step, new in zip(todo, done, strict=False)]
        return rewrite_of(
            name, ledger.log(plan.head)[::-1], {e.id for e in ledger.log(plan.start)},
            pairs if last is None else [*pairs, (last.entry.id, None)],
            time=utc_now(), author=author, message=message, reason=reason,
        )  # fmt: skip

    for step in todo[len(done) :]:
        last = len(done) + 1 == len(todo)
        new = _replay(session, step, work, done[-1].id if done else plan.start, kept(step) if last else None)
        done.append(new)
        if on_step is not None:
            on_step(step, new)
    if not done and plan.changes:
        done.append(ledger.record_rewrite(kept(None), branch=work, parent=plan.start, author=author))
    tip = done[-1].id if done else plan.start
    try:
        ledger.reset(tip, branch=plan.branch, expected=plan.head, message=message)
    except Conflict as error:
        raise BranchMoved(error.ref, error.expected, error.found) from error
    if session.branch == plan.branch:
        session.follow(tip)
    ledger.delete_branch(work)
    return tip


def abort(ledger: Ledger, *, dry_run: bool = False) -> bool:
    """Drop the new history of an interrupted rebase of HEAD's branch; whether there was one.

    Args:
        ledger: The ledger.
        dry_run: Only look.
    """
    work = PREFIX + ledger.branch()
    if work not in ledger.branches():
        return False
    if not dry_run:
        ledger.delete_branch(work)
    return True


def check_begun(ledger: Ledger, plan: RebasePlan, *, resume: bool) -> int:
    """How many steps of a plan an interrupted rebase has done already; refuses what `rebase` refuses, changes nothing.

    Raises:
        InputError: an interrupted rebase is there and ``resume`` is not set, or it was another one.
    """
    work = PREFIX + plan.branch
    if work not in ledger.branches():
        return 0
    return len(_begun(ledger, work, plan, [step for step in plan.steps if step.action != "keep"], resume))


def _begun(ledger: Ledger, work: str, plan: RebasePlan, todo: Sequence[Step], resume: bool) -> list[Entry]:
    """Entries that an interrupted run has made already; the working branch exists afterwards."""
    if work not in ledger.branches():
        ledger.start_branch(work, plan.start)
        return []
    if not resume:
        raise InputError(
            f"a rebase of '{plan.branch}' was interrupted (branch '{work}'); go on with --resume or drop it with "
            "--abort"
        )
    made = []
    for entry in ledger.log(work):
        if entry.id == plan.start:
            break
        made.append(entry)
    else:
        raise InputError(f"branch '{work}' does not follow {plan.start[:12]}, so it is another rebase; see --abort")
    made.reverse()
    for step, entry in zip(todo, made, strict=False):
        if (entry.requests, completed(entry.method)) != (step.entry.requests, completed(step.entry.method)):
            raise InputError(f"branch '{work}' is another rebase than this one; drop it with --abort")
    return made


def _replay(session: Session, step: Step, work: str, tip: str, rewrite: Mapping[str, Any] | None = None) -> Entry:
    old, ledger = step.entry, session.ledger
    adapter = ledger.adapter(old)
    scores: Mapping[str, Any] | Callable[[Entry], dict[str, dict[str, Any]]] | None = None
    if step.action == "reuse":
        scores = scores_to_copy(ledger, old, tip)
    if step.action == "recompute":
        method, config = method_of(old)
        solved = old.method.get("name") == "merge"
        fresh = session.compute_on(
            ledger.active(tip), old.requests, method, config,
            context_templates=adapter.provenance.get("context_templates"),
            seed=int(adapter.provenance.get("seed") or 0),
            target_values=adapter.target_values if solved else None,
        )  # fmt: skip
        # A merge stays one: its target values are what it solves for, on whatever state.
        known = inherited(adapter, method, config)
        fresh = replace(fresh, provenance={**fresh.provenance, **known})
        adapter = fresh if not solved else _as_merge(fresh, adapter)
        scores = diagnosis_scores(adapter)
    elif step.action == "copy":
        _LOG.info("entry %s is taken over as it is: no method can compute it again", old.id[:12])
    return ledger.append(
        adapter, branch=work, parent=tip, message=old.message, author=old.author, time=old.time,
        scores=scores, reason=old.reason, origin=old.origin, rewrite=rewrite, facts_file=old.facts_file,
    )  # fmt: skip


def _as_merge(fresh: Adapter, old: Adapter) -> Adapter:
    return replace(fresh, method=old.method)


def _computable(entry: Entry) -> bool:
    try:
        method_of(entry)
    except InputError:
        return False
    return True
