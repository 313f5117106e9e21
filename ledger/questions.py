"""Questions about facts and moves: what a state answers, what tells two apart, who set a fact, what moved a branch."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.database import rows
from ledger.history.conflicts import Overlap, overlaps
from ledger.history.diff import Fact, StateDiff, diff_states, facts_in_force
from ledger.queries import branches, reflog
from ledger.queries.blame import Answer, blame
from ledger.queries.taught import similar_subjects
from ledger.reading import Reader
from seqedit.facts.requests import Request


class Questions(Reader):
    """A history of edits that answers questions about its facts."""

    def branch_entry(self, name: str) -> str:
        """Id of the entry that a branch is at.

        Raises:
            InputError: there is no such branch; the message lists them.
        """
        with self.database.read() as connection:
            return branches.require(connection, name)

    def facts(self, rev: str = rows.HEAD) -> dict[Fact, tuple[str, Request]]:
        """Fact (subject, relation) -> (entry id, request) of everything that a state answers by edits."""
        return facts_in_force(self.active(rev), self.live_requests(rev))

    def overlaps(self, requests: Sequence[Request], rev: str = rows.HEAD) -> list[Overlap]:
        """Where a batch touches facts that a state already answers; nothing is computed or written."""
        return overlaps(requests, self.facts(rev))

    def diff(self, old: str, new: str = rows.HEAD) -> StateDiff:
        """The differences of two states: facts added, superseded and dropped, and the adapters behind them."""
        old_id, new_id = self.resolve(old), self.resolve(new)
        return diff_states(
            old_id, new_id, self.active(old_id), self.active(new_id),
            self.live_requests(old_id), self.live_requests(new_id),
        )  # fmt: skip

    def blame(
        self, subject: str, relation: str | None = None, *, rev: str = rows.HEAD, everywhere: bool = False
    ) -> list[Answer]:
        """Every request about a subject, oldest first, and what has become of it; see `ledger.queries.blame.blame`."""
        with self.database.read() as connection:
            return blame(connection, subject, relation, rev=rev, everywhere=everywhere)

    def similar_subjects(self, subject: str) -> list[str]:
        """Subjects to suggest where one was never taught."""
        with self.database.read() as connection:
            return similar_subjects(connection, subject)

    def moves(self, ref: str | None = None, limit: int | None = None) -> list[reflog.Move]:
        """The reflog, newest first: of one branch (or HEAD), or of all."""
        with self.database.read() as connection:
            return reflog.moves(connection, ref, limit)
