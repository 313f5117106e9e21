"""Everything that can be asked of a ledger without changing it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from ledger.database import rows
from ledger.database.database import Database
from ledger.database.defaults import kept_defaults
from ledger.database.schema import Entries
from ledger.database.scores import load_scores
from ledger.errors import failures
from ledger.history import graph
from ledger.history.entries import Entry
from ledger.names import is_digest
from ledger.objects.objects import ObjectStore
from ledger.problems import Problem
from ledger.queries import branches
from ledger.queries.histories import HistoryNode, live_requests, load_history
from ledger.queries.listing import list_entries
from ledger.queries.revisions import resolve
from ledger.queries.states import same_states, state_ids
from ledger.upkeep.signers import has_entry
from ledger.upkeep.verify import verify
from ledger.upkeep.vouching import check_state, is_signed, kept_signers
from seqedit.adapters.base import BaseModel
from seqedit.errors import CheckFailed, InputError

# Torch takes seconds to import, and most questions are about entries: what needs it is imported where it is used.
if TYPE_CHECKING:
    from torch import Tensor

    from ledger.states.snapshots import SnapshotPolicy, Snapshots
    from seqedit.adapters.adapter import Adapter


class Reader:
    """A history of edits, to be read.

    Args:
        database: Where entries, refs and scores are.
        store: Where the adapters are.
        base_model: The unedited model of the history.
        snapshots: When snapshots of composed states are written; None for the usual policy.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        base_model: BaseModel,
        snapshots: SnapshotPolicy | None = None,
    ) -> None:
        self.database = database
        self.store = store
        self.base_model = base_model
        self._policy = snapshots
        self.signers: Mapping[str, str] | None = None
        """Public keys (key -> name) that must vouch for every state that is composed or whose adapters are read."""

    @cached_property
    def snapshots(self) -> Snapshots:
        """Sums of deltas that are kept beside the objects."""
        from ledger.states.snapshots import SnapshotPolicy, Snapshots

        return Snapshots(self.database, self.store, self._policy or SnapshotPolicy())

    def head(self) -> str:
        """Id of the entry HEAD is at."""
        return self.resolve(rows.HEAD)

    def branch(self) -> str:
        """Name of the branch HEAD is on."""
        with self.database.read() as connection:
            return rows.head(connection)[0]

    def position(self) -> tuple[str, str]:
        """Branch that HEAD names and the entry it is at, read together: nobody can move HEAD in between."""
        with self.database.read() as connection:
            return rows.head(connection)

    def branches(self) -> dict[str, str]:
        """Branch name -> id of the entry it is at."""
        with self.database.read() as connection:
            return branches.branches(connection)

    def root(self) -> str:
        """Id of the root entry, the unedited model."""
        with self.database.read() as connection:
            return str(connection.execute(select(Entries.id).where(Entries.operation == "root")).scalar_one())

    def resolve(self, rev: str) -> str:
        """Id of the entry that a revision names.

        Args:
            rev: Full id, unique prefix of at least 4 digits, branch, ``HEAD``, or any of them with ``~N``.

        Raises:
            InputError: it names no entry, or several, which the message lists.
        """
        with self.database.read() as connection:
            return resolve(connection, rev)

    def entry(self, rev: str = rows.HEAD) -> Entry:
        """The entry that a revision names."""
        with self.database.read() as connection:
            return rows.load_entries(connection, [resolve(connection, rev)])[0]

    def log(self, rev: str = rows.HEAD, limit: int | None = None) -> list[Entry]:
        """The history of a revision along first parents, newest first; at most ``limit`` entries."""
        with self.database.read() as connection:
            history = _history(connection, rev)[::-1]
            return rows.load_entries(connection, [node.id for node in history[:limit]])

    def log_rows(
        self,
        rev: str = rows.HEAD,
        limit: int | None = None,
        kinds: Collection[str] | None = None,
        keys: Collection[str] | None = None,
    ) -> list[dict[str, Any]]:
        """The history as ``log --json`` prints it, newest first.

        ``active`` says whether the entry's adapter is part of the state of ``rev``; root and reverts have none.

        Args:
            rev: The newest entry.
            limit: How many at most.
            kinds: Kinds of scores to list; None for all, which may be large.
            keys: Keys of these scores; None for all.
        """
        with self.database.read() as connection:
            return list_entries(connection, resolve(connection, rev), limit, kinds, keys)

    def active_ids(self, rev: str = rows.HEAD) -> list[str]:
        """Ids of `active`, without reading the entries."""
        with self.database.read() as connection:
            return [node.id for node in graph.active(_history(connection, rev))]

    def active(self, rev: str = rows.HEAD) -> list[Entry]:
        """The entries whose adapters make up a state, in the order in which they compose."""
        with self.database.read() as connection:
            nodes = graph.active(_history(connection, rev))
            return rows.load_entries(connection, [node.id for node in nodes])

    def live_requests(self, rev: str = rows.HEAD) -> dict[str, tuple[int, ...]]:
        """Active entry id -> positions of its requests that no later active request supersedes, in ledger order."""
        with self.database.read() as connection:
            return live_requests(connection, resolve(connection, rev))

    def adapter(self, which: Entry | str) -> Adapter:
        """The adapter of an entry, or of a digest.

        Args:
            which: An entry, a revision, or an adapter's full digest.

        Raises:
            InputError: there is no such entry, or it adds no adapter.
            CheckFailed: the object is missing or damaged.
        """
        if isinstance(which, Entry):
            identifier, digest = which.id, which.adapter
        else:
            with self.database.read() as connection:
                query = select(Entries.adapter).where(Entries.adapter == which).limit(1)
                identifier, digest = which, connection.execute(query).scalar() if is_digest(which) else None
                if digest is None:
                    identifier = resolve(connection, which)
                    if self.signers is not None:
                        check_state(connection, identifier, self.base_model, self.signers)
                    digest = connection.execute(select(Entries.adapter).where(Entries.id == identifier)).scalar()
        if digest is None:
            raise InputError(f"entry {identifier[:12]} adds no adapter")
        return self._load(digest)

    def adapters(self, rev: str = rows.HEAD) -> Iterator[Adapter]:
        """The active adapters of a state in the order in which they compose, loaded one at a time."""
        for digest in self._digests(rev):
            yield self._load(digest)

    def _digests(self, rev: str) -> list[str]:
        return self._state(rev)[1]

    def _state(self, rev: str) -> tuple[str, list[str], bool]:
        """Id of a state's entry, its adapters, and whether they are to be believed by their content alone."""
        with self.database.read() as connection:
            identifier = resolve(connection, rev)
            careful = self.signers is not None or is_signed(connection)
            if careful:
                check_state(connection, identifier, self.base_model, self.signers)
            nodes = graph.active(load_history(connection, identifier))
        return identifier, [node.adapter for node in nodes if node.adapter is not None], careful

    def defaults(self) -> dict[str, Any]:
        """Options that are set once for this ledger (`seqedit config`): name -> value.

        Raises:
            CheckFailed: they are malformed.
        """
        with self.database.read() as connection:
            return kept_defaults(connection)

    def kept_signers(self) -> dict[str, str] | None:
        """The public keys that the ledger itself keeps as those to ask for (key -> name), or None.

        Raises:
            CheckFailed: they are malformed.
        """
        with self.database.read() as connection:
            return kept_signers(connection)

    def check_signed(self, rev: str = rows.HEAD, signers: Collection[str] | None = None) -> str:
        """Refuse a state that no signer vouches for.

        Args:
            rev: The state.
            signers: Public keys; by default those that the ledger was opened with, or else keeps; without any, no
                signature is asked for.

        Returns:
            Id of its entry.

        Raises:
            CheckFailed: nobody vouches for it, or the database does not say what its entries say.
        """
        with self.database.read() as connection:
            identifier = resolve(connection, rev)
            wanted = signers if signers is not None else self.signers
            wanted = kept_signers(connection) if wanted is None else wanted
            if wanted is not None:
                check_state(connection, identifier, self.base_model, wanted)
        return identifier

    def _load(self, digest: str) -> Adapter:
        from seqedit.adapters.adapter import Adapter

        with failures(f"object store {self.store.url}"), self.store.directory(digest) as directory:
            try:
                adapter = Adapter.from_pretrained(directory)
            except InputError as error:
                raise CheckFailed(f"object {digest[:12]} is damaged: {error}; run verify") from error
        if adapter.digest != digest:
            raise CheckFailed(f"object {digest[:12]} holds adapter {adapter.digest[:12]} instead; run verify")
        return adapter

    def compose(
        self, base: Mapping[str, Tensor], rev: str = rows.HEAD, *, only_changed: bool = False
    ) -> dict[str, Tensor]:
        """Weights of a state, composed from its adapters or, with the same result to the bit, from a snapshot on.

        In a ledger with signatures nothing is believed that they do not cover: neither snapshots of other processes
        nor recorded digests of files, and the database must say what the entries say.

        Args:
            base: Module name -> (d_out, d_in) weight of the unedited model.
            rev: The state.
            only_changed: Leave out the modules that no adapter touches; ``base`` is then asked only for the others.

        Returns:
            Every module of ``base``; modules that no adapter touches are the base's own tensors.

        Raises:
            InputError: no such revision, or an adapter does not fit the base.
            CheckFailed: an adapter is missing or damaged, or no signer vouches for the state where `signers` are set.
            NumericsError: a weight overflows the base's dtype.
        """
        from ledger.states.deltas import load_recorded, read_ahead

        identifier, digests, careful = self._state(rev)
        with failures(f"object store {self.store.url}"):
            composition, keep = self.snapshots.resume(base, digests, own_only=careful)
            left = digests[composition.count :]
            with self.database.read() as connection:
                recorded = load_recorded(connection, left)
            sums = None
            for deltas in read_ahead(self.store, left, recorded, self._load, whole=careful):
                composition.add(deltas)
                if composition.count == keep:
                    sums = composition.snapshot()
            weights = composition.changed() if only_changed else composition.weights()
            if sums is not None:
                self.snapshots.write(digests[:keep], sums, identifier)
        return weights

    def scores(self, rev: str = rows.HEAD, kind: str | None = None) -> dict[str, dict[str, Any]]:
        """Scores of the state that an entry made: kind -> key -> value; of one kind, or of all."""
        with self.database.read() as connection:
            identifier = resolve(connection, rev)
            return load_scores(connection, [identifier], kind)[identifier]

    def state_ids(self) -> dict[str, str]:
        """Entry id -> id of the state it leads to (`ledger.queries.states`), of all entries of the ledger."""
        with self.database.read() as connection:
            return state_ids(self.base_model.fingerprint, rows.load_nodes(connection))

    def adapter_digests(self) -> dict[str, str | None]:
        """Entry id -> digest of the adapter it adds, or None; of all entries of the ledger."""
        with self.database.read() as connection:
            return {row.id: row.adapter for row in connection.execute(select(Entries.id, Entries.adapter))}

    def state_scores(self, rev: str, kind: str) -> dict[str, Any]:
        """`states_scores` of the state of one revision."""
        identifier = self.resolve(rev)
        return self.states_scores([identifier], kind)[identifier]

    def states_scores(self, entries: Collection[str], kind: str) -> dict[str, dict[str, Any]]:
        """Scores of one kind of the states of some entries, whichever entries that lead there they were recorded at.

        Only for kinds whose values are functions of the state and the key; where several entries have a key, the
        entry's own value counts, then the newest.

        Args:
            entries: Full ids of entries.
            kind: Kind of scores.

        Returns:
            Entry id -> key -> value.
        """
        with self.database.read() as connection:
            alike = same_states(self.base_model.fingerprint, rows.load_nodes(connection), entries)
            found = load_scores(connection, {other for group in alike.values() for other in group}, kind)
        merged: dict[str, dict[str, Any]] = {}
        for entry, group in alike.items():
            values = merged.setdefault(entry, {})
            for other in group:
                for key, value in found[other].get(kind, {}).items():
                    values.setdefault(key, value)
        return merged

    def verify(
        self, deep: bool = True, signers: Collection[str] | None = None, at_least: str | None = None
    ) -> list[Problem]:
        """Check everything the ledger promises about what it stores.

        Args:
            deep: Also read all data and recompute every digest; else presence and sizes only.
            signers: Public keys that must vouch for all that branches lead to; see `ledger.upkeep.signers`. By default
                those that the ledger was opened with, or else keeps.
            at_least: Id, or its first digits, of the newest entry that is known: HEAD must have it in its history.

        Returns:
            What was found. The ledger is sound where no problem has ``damage``; the others are notices of what an
            interrupted writer left behind.
        """
        with failures(f"object store {self.store.url}"):
            if at_least is not None:
                has_entry((), at_least)  # refuses what is no id
            wanted = signers if signers is not None else self.signers
            return verify(
                self.database, self.store, self.base_model, deep=deep, at_least=at_least,
                signers=self.kept_signers() if wanted is None else wanted,
            )  # fmt: skip


def _history(connection: Connection, rev: str) -> list[HistoryNode]:
    return load_history(connection, resolve(connection, rev))
