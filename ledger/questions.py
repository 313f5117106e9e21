"""Questions about facts and moves: what a state answers, what tells two apart, who set a fact, what moved a branch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ledger.database import rows
from ledger.errors import failures
from ledger.history.conflicts import Overlap, overlaps
from ledger.history.diff import Fact, FactChange, StateDiff, diff_states, facts_in_force
from ledger.history.entries import Entry
from ledger.queries import branches, overview, reflog, tags
from ledger.queries.blame import Answer, blame
from ledger.queries.listing import list_entries
from ledger.queries.patches import patches
from ledger.queries.revisions import resolve
from ledger.queries.taught import similar_subjects
from ledger.reading import Reader
from ledger.upkeep.vouching import is_signed
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

    def stored_norms(self, added: Sequence[Entry], removed: Sequence[Entry]) -> dict[str, float] | None:
        """Module name -> Frobenius norm of what the adapters of some entries add, less what those of others do.

        Returns:
            None where only a full reading of the adapters can tell (`Reader.adapter`): a file is not what was recorded,
            or signatures are asked for, which cover no recorded digests of files.
        """
        from ledger.states.deltas import load_recorded
        from ledger.states.norms import stored_norms

        new, old = ([e.adapter for e in entries if e.adapter is not None] for entries in (added, removed))
        with self.database.read() as connection:
            if self.signers is not None or is_signed(connection):
                return None
            recorded = load_recorded(connection, [*new, *old])
        with failures(f"object store {self.store.url}"):
            return stored_norms(self.store, new, old, recorded)

    def tags(self) -> list[tags.Tag]:
        """All tags, by name."""
        with self.database.read() as connection:
            return tags.tags(connection)

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

    def log_told(
        self,
        rev: str = rows.HEAD,
        *,
        everything: bool = False,
        merged: bool = False,
        limit: int | None = None,
        kinds: Collection[str] | None = None,
        keys: Collection[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Rows as `log_rows` has them, with who made each entry and why, and the branches and tags that are at it.

        Args:
            rev: The newest entry.
            everything: Instead, all that branches and tags lead to; ``active`` is about the state of ``rev``.
            merged: Also the branches that were merged, and not the first parents alone.
            limit: How many at most.
            kinds: Kinds of scores to list; None for all, which may be large.
            keys: Keys of these scores; None for all.
        """
        with self.database.read() as connection:
            head = resolve(connection, rev)
            if everything or merged:
                heads = {head, *(overview.refs_at(connection) if everything else ())}
                found = overview.list_histories(
                    connection, sorted(heads), head, limit=limit, kinds=kinds, keys=keys
                )  # fmt: skip
            else:
                found = list_entries(connection, head, limit, kinds, keys)
            overview.add_told(connection, found)
        return found

    def patches(self, ids: Iterable[str]) -> dict[str, tuple[FactChange, ...]]:
        """Entry id -> the facts that it changed, of some entries (`ledger.queries.patches`)."""
        with self.database.read() as connection:
            return patches(connection, ids)

    def refs_at(self) -> dict[str, list[str]]:
        """Entry id -> the branches and tags (``tag: NAME``) that are at it."""
        with self.database.read() as connection:
            return overview.refs_at(connection)

    def moves(self, ref: str | None = None, limit: int | None = None) -> list[reflog.Move]:
        """The reflog, newest first: of one branch (or HEAD), or of all."""
        with self.database.read() as connection:
            return reflog.moves(connection, ref, limit)
