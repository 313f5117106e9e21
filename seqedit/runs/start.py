"""Where a run begins in its ledger: on which branch, at which entry, and whether it takes up an interrupted one.

A run notes at the entry that it begins at that it began there (`KIND_RUN`, by branch), and when it ended. So a resumed
run finds its own first step, however much history lies before it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ledger import Entry, Ledger
from ledger.database.places import has_ledger
from ledger.history.entries import utc_now
from ledger.url_secrets import without_password
from seqedit.errors import InputError
from seqedit.facts.requests import Record
from seqedit.runs.config import ROOT, RunConfig

KIND_RUN = "run"
"""Branch -> {"began", "ended"}: the last run that began at this entry on it; "ended" is missing while it goes on."""


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        branch: The branch that it extends.
        entry: Id of the entry that it begins at; None for the root of a ledger that is yet to be made.
        new: Whether the branch is yet to be made.
        resumed: Whether a run that began there is taken up.
        history: The entries up to there, oldest first.
        tail: What the branch holds after it, oldest first.
        active: Ids of the entries whose adapters are in force there.
    """

    branch: str
    entry: str | None
    new: bool
    resumed: bool
    history: tuple[Entry, ...] = ()
    tail: tuple[Entry, ...] = ()
    active: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line on where the run begins."""
        where = "the unedited model" if len(self.history) < 2 else f"entry {str(self.entry)[:12]}"
        count = len(self.active)
        held = f" ({count} batch{'' if count == 1 else 'es'} in force)" if count else ""
        done = f"; entries made since: {len(self.tail)}" if self.resumed else ""
        new = "new branch" if self.new else "branch"
        return f"{new} '{self.branch}': the run {'began' if self.resumed else 'begins'} at {where}{held}{done}"


def is_there(place: str) -> bool:
    """Whether a run's ledger exists; of a database URL opening it tells."""
    return "://" in place or has_ledger(place)


def find_start(ledger: Ledger | None, config: RunConfig, *, resume: bool = False, files: Collection[str] = ()) -> Start:
    """Where a run would begin; nothing is changed.

    Args:
        ledger: The ledger; None where it is yet to be made.
        config: The run.
        resume: Take up the run that began last on the branch.
        files: Digests of the files of a run that edits only new ones: an interrupted one of them is taken up unasked.

    Raises:
        InputError: ``onto`` names nothing, or the branch exists and is elsewhere; says what to do.
    """
    if ledger is None:
        if config.onto not in (None, ROOT, "main", "HEAD"):
            raise InputError(
                f"field 'onto': there is no '{config.onto}', because there is no ledger at {_place(config)} yet"
            )
        return Start(config.branch, None, config.branch != "main", False)
    branches = ledger.branches()
    tip = branches.get(config.branch)
    if tip is None:
        return _new_branch(ledger, config, branches)
    log = ledger.log(config.branch)[::-1]
    rows = {row["id"]: row["scores"].get(KIND_RUN, {}) for row in ledger.log_rows(config.branch, kinds=(KIND_RUN,))}
    begun = next((i for i in reversed(range(len(log))) if config.branch in rows[log[i].id]), None)
    if not resume and files and begun is not None:
        mark = rows[log[begun].id][config.branch]
        resume = not mark.get("ended") and _all_of(log[begun + 1 :], files)
    if resume:
        at = 0 if begun is None else begun
        return _at(ledger, config, log, at, resumed=True)
    if config.onto is not None and (named := _onto(ledger, config.onto, branches)) != tip:
        raise InputError(
            f"field 'onto': branch '{config.branch}' of the ledger {_place(config)} is at {tip[:12]}, not at "
            f"'{config.onto}' ({named[:12]}); continue its run with --resume, leave out 'onto' to go on at the "
            "branch's head, or name a new 'branch'"
        )
    return _at(ledger, config, log, len(log) - 1)


def _all_of(entries: Sequence[Entry], files: Collection[str]) -> bool:
    """Whether entries are a run's on some files: edits of them, and reverts of those."""
    edits = {entry.id for entry in entries if entry.operation == "edit" and entry.facts_file.get("sha256") in files}
    return all(entry.id in edits or (entry.operation == "revert" and entry.targets[0] in edits) for entry in entries)


def _at(ledger: Ledger, config: RunConfig, log: Sequence[Entry], at: int, *, resumed: bool = False) -> Start:
    entry = log[at].id
    active = tuple(ledger.active_ids(entry))
    return Start(config.branch, entry, False, resumed, tuple(log[: at + 1]), tuple(log[at + 1 :]), active)


def _new_branch(ledger: Ledger, config: RunConfig, branches: dict[str, str]) -> Start:
    if config.branch == config.onto:
        raise InputError(
            f"field 'onto': the ledger {_place(config)} has no branch '{config.onto}' (there are: "
            f"{', '.join(branches)}); to begin a new one at an entry, name it with 'branch'"
        )
    entry = ledger.check_branch(config.branch, _onto(ledger, config.onto or "HEAD", branches))
    history = tuple(ledger.log(entry)[::-1])
    return Start(config.branch, entry, True, False, history, (), tuple(ledger.active_ids(entry)))


def _onto(ledger: Ledger, onto: str, branches: dict[str, str]) -> str:
    """Id of the entry that ``onto`` names."""
    if onto != ROOT:
        try:
            return ledger.resolve(onto)
        except InputError as error:
            raise InputError(f"field 'onto': {error}") from error
    if ROOT in branches:
        raise InputError(f"field 'onto': '{ROOT}' is the unedited model and also a branch here; give an entry's id")
    return ledger.root()


def _place(config: RunConfig) -> str:
    return without_password(config.ledger)


def check_not_there(ledger: Ledger, start: Start, first: Sequence[Record], config: RunConfig) -> None:
    """Refuse a run whose first batch is in force already: it was begun before, or the batch came from elsewhere.

    Raises:
        InputError: names the entry, and says how to go on.
    """
    if start.entry is None or start.resumed:
        return
    live = ledger.live_requests(start.entry)
    held = {e.requests[p].asks(): e for e in start.history if e.id in live for p in live[e.id]}
    found = [held.get(record.request.asks()) for record in first]
    if all(entry is not None for entry in found) and found[0] is not None:
        raise InputError(
            f"branch '{start.branch}' of the ledger {_place(config)} holds this run's first batch already (entry "
            f"{found[0].id[:12]}); continue the run with --resume, edit only files that are new with --new-files, or "
            "choose another ledger, branch or --out"
        )


def begin(ledger: Ledger, start: Start) -> str:
    """Make the branch where it is new, switch to it, note that a run begins there; the entry it begins at.

    Raises:
        Conflict: the branch is no longer where it was found.
    """
    entry = start.entry or ledger.root()
    if start.branch not in ledger.branches():
        ledger.start_branch(start.branch, entry)
    ledger.switch(start.branch)
    if not start.resumed:
        ledger.add_scores(entry, KIND_RUN, {start.branch: {"began": utc_now()}})
    return entry


def end(ledger: Ledger, start: Start, entry: str) -> None:
    """Note that the run that began at an entry came to its end, by a gate or after its last batch."""
    mark = ledger.scores(entry, KIND_RUN).get(KIND_RUN, {}).get(start.branch) or {}
    ledger.add_scores(entry, KIND_RUN, {start.branch: {**mark, "ended": utc_now()}})
