"""The ledger: a history of edits on one base model, to be extended and read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert

from ledger.database import places, rows
from ledger.database.defaults import keep_defaults
from ledger.database.schema import Base, Refs
from ledger.database.scores import Values, check_scores, put_scores
from ledger.database.store_users import check_new_store, forget, join, mark_new_store
from ledger.errors import Conflict
from ledger.history import graph
from ledger.history.entries import Entry, check_texts, root_entry, utc_now
from ledger.history.picks import pick_of
from ledger.objects.manifest import Manifest
from ledger.queries import branches, reflog
from ledger.queries.histories import load_history
from ledger.queries.reflog import Move
from ledger.queries.revisions import resolve
from ledger.tagging import Tagging
from ledger.upkeep.gc import GRACE_SECONDS, KEEP_DAYS, Garbage, collect
from ledger.upkeep.signing import Signature, add_signatures, sign, signatures_of
from ledger.upkeep.vouching import keep_signers
from ledger.url_secrets import without_password
from seqedit.adapters.base import BaseModel
from seqedit.errors import EnvironmentFailure, InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from seqedit.adapters.adapter import Adapter

MAIN = "main"


class Ledger(Tagging):
    """A history of edits. Make one with `create` or `open`; close it, or use it as a context manager."""

    _joined = False

    @classmethod
    def create(
        cls,
        place: str | Path,
        base_model: BaseModel,
        *,
        objects: str | None = None,
        author: str = "",
        time: str | None = None,
        message: str = "base model",
    ) -> Ledger:
        """Make a ledger whose history starts with the unedited model.

        Args:
            place: A directory, which will hold ``ledger.db`` and ``objects/``; or an SQLAlchemy URL.
            base_model: The unedited model.
            objects: fsspec URL of the object store; needed with an SQLAlchemy URL.
            author: Author of the root entry.
            time: Its time, ISO 8601 UTC; now by default.
            message: Its message.

        Raises:
            InputError: there is a ledger already, or the object store is a directory that is in use otherwise.
            EnvironmentFailure: disk or database failed.
        """
        time = time or utc_now()
        root = root_entry(base_model, author=author, time=time, message=message)
        store = places.store_of(place, places.objects_url(place, objects))
        new = not places.has_ledger(place)
        if new:
            check_new_store(store)  # before anything is made
        database, url = places.database_to_create(place, objects)
        try:
            if new:
                mark_new_store(store, database, root.id)
            # One transaction: killed half way it leaves a database without tables, which `create` takes up again.
            with database.write() as connection:
                if places.read_meta(connection) is not None:
                    raise InputError(f"{database.name} holds a ledger already; open it, or choose another place")
                Base.metadata.create_all(connection)
                places.write_meta(connection, base_model, objects=url, created=time)
                rows.insert_entry(connection, root, 0)
                rows.create_ref(connection, MAIN, root.id, time=time, message=f"root: {message}")
                connection.execute(insert(Refs), [{"name": rows.HEAD, "entry": None, "symbolic": MAIN}])
        finally:
            database.close()
        return cls.open(place)

    @classmethod
    def open(
        cls,
        place: str | Path,
        base_model: BaseModel | None = None,
        *,
        objects: str | None = None,
        signers: Mapping[str, str] | None = None,
    ) -> Ledger:
        """Open a ledger; one of an older schema is upgraded, and nothing else is changed.

        Args:
            place: As for `create`.
            base_model: The model that is going to be edited or scored, to be checked against the ledger's.
            objects: fsspec URL of the object store where it has moved.
            signers: Public keys (key -> name, `ledger.upkeep.signers.read_signers`) that must vouch for every state
                that is composed or whose adapters are read.

        Raises:
            InputError: there is no ledger, or it is that of another base model.
            EnvironmentFailure: disk or database failed.
        """
        opened = places.open_place(place, objects)
        if base_model is not None and base_model.fingerprint != opened.base_model.fingerprint:
            opened.database.close()
            this = f"the ledger {without_password(place)}"
            raise InputError(_other_model(this, opened.base_model, "the given model", base_model))
        ledger = cls(opened.database, opened.store, opened.base_model)
        ledger.signers = signers
        return ledger

    def append(
        self,
        adapter: Adapter,
        *,
        message: str = "",
        author: str = "",
        time: str | None = None,
        parent: str | None = None,
        operation: str = "edit",
        targets: Sequence[str] = (),
        others: Sequence[str] = (),
        branch: str | None = None,
        scores: Mapping[str, Values] | Callable[[Entry], Mapping[str, Values]] | None = None,
        reason: str = "",
        origin: str | None = None,
        rewrite: Mapping[str, Any] | None = None,
        facts_file: Mapping[str, str] | None = None,
    ) -> Entry:
        """Add an adapter to the history of a branch.

        Args:
            adapter: The batch of edits.
            message: Free text.
            author: Free text.
            time: ISO 8601 UTC, whole seconds; now by default.
            parent: Revision the adapter was computed on, where another writer's entry in between must be refused;
                by default the entry follows whatever HEAD is at.
            operation: Name of the operation: ``edit``, or ``swap`` or ``merge`` with their targets.
            targets: Active entries that the adapter takes the place of.
            others: Entries of other branches whose edits a merge brings in; further parents.
            branch: The branch to extend, by default HEAD's.
            scores: Kind -> key -> value, as for `add_scores`; or what gives them for the new entry, whose id it knows.
            reason: Why; free text, kept in the entry.
            origin: Id of the entry whose facts these are, where they were picked from elsewhere.
            rewrite: What a rebase or reorder did that ends with this entry (`ledger.history.rewrites`).
            facts_file: Name and SHA-256 of the file that the facts come from (`seqedit.facts.files`).

        Raises:
            InputError: the adapter is of another base model, is active already, a text cannot be stored, or the
                operation cannot have these targets.
            Conflict: HEAD is not at ``parent``.
            EnvironmentFailure: disk or database failed; HEAD is where it was.
        """
        build = self._entry_of(
            adapter, message=message, author=author, time=time or utc_now(), operation=operation,
            targets=tuple(map(self.resolve, targets)), others=tuple(map(self.resolve, others)),
            reason=reason, origin=origin, rewrite=rewrite or {}, facts_file=facts_file or {},
        )  # fmt: skip
        return self._extend(build, parent, adapter, scores, branch)

    def check_append(self, adapter: Adapter, branch: str | None = None) -> None:
        """Refuse what `append` refuses of a plain edit, and change nothing."""
        build = self._entry_of(adapter, time=utc_now())
        with self.database.read() as connection:
            self._checked(connection, build, None, branch, lock=False)

    def _entry_of(
        self,
        adapter: Adapter,
        *,
        time: str,
        message: str = "",
        author: str = "",
        operation: str = "edit",
        targets: tuple[str, ...] = (),
        others: tuple[str, ...] = (),
        **told: Any,
    ) -> Callable[[str], Entry]:
        if adapter.base_model.fingerprint != self.base_model.fingerprint:
            raise InputError(_other_model("the ledger", self.base_model, "the adapter", adapter.base_model))
        check_texts(adapter.requests)

        def build(head: str) -> Entry:
            return Entry(
                base_model=self.base_model,
                operation=operation,
                time=time,
                parents=(head, *others),
                adapter=adapter.digest,
                targets=targets,
                method=adapter.method,
                requests=tuple(adapter.requests),
                author=author,
                message=message,
                **told,
            )

        return build

    def cherry_pick(
        self,
        rev: str,
        *,
        message: str | None = None,
        author: str | None = None,
        time: str | None = None,
        reason: str = "",
        parent: str | None = None,
        branch: str | None = None,
    ) -> Entry:
        """Take an entry's adapter over onto a branch, as it is: it composes last, and its facts supersede earlier ones.

        Args:
            rev: The entry, of any branch.
            message: Free text; by default that of the entry.
            author: Free text; by default that of the entry.
            time: As for `append`.
            reason: Why; free text, kept in the new entry, which also names the entry it comes from.
            parent: As for `append`.
            branch: The branch to extend, by default HEAD's.

        Raises:
            InputError: the entry adds no adapter, or it is in force there already.
            Conflict: HEAD is not at ``parent``.
        """
        build = pick_of(self.entry(rev), message=message, author=author, time=time or utc_now(), reason=reason)
        return self._extend(build, parent, branch=branch)

    def check_cherry_pick(self, revs: Sequence[str], branch: str | None = None) -> list[Entry]:
        """The entries that `cherry_pick` would take over in turn; refuses what it refuses, and writes nothing."""
        with self.database.read() as connection:
            name = branch or rows.head(connection)[0]
            found = rows.load_entries(connection, [resolve(connection, rev) for rev in revs])
            history: list[graph.Node] = list(load_history(connection, branches.require(connection, name)))
        for source in found:
            entry = pick_of(source, time=utc_now())(history[-1].id)
            graph.check_next(history, entry)
            history.append(entry)
        return found

    def record_rewrite(
        self, rewrite: Mapping[str, Any], *, branch: str, parent: str, author: str = "", time: str | None = None
    ) -> Entry:
        """Append what a rebase or reorder did where no entry that it made anew can carry it; the state stays the same.

        Args:
            rewrite: From `ledger.history.rewrites.rewrite_of`.
            branch: The branch to extend.
            parent: Where it must be.
            author: Free text.
            time: As for `append`.
        """
        when = time or utc_now()

        def build(head: str) -> Entry:
            return Entry(
                self.base_model, "rebase", when, (head,), author=author, message=str(rewrite["message"]),
                rewrite=rewrite,
            )  # fmt: skip

        return self._extend(build, parent, branch=branch)

    def revert(
        self,
        rev: str,
        *,
        message: str | None = None,
        author: str = "",
        time: str | None = None,
        parent: str | None = None,
        branch: str | None = None,
        reason: str = "",
    ) -> Entry:
        """Take an entry out of force: the state is then as if it had never been appended.

        Reverting a revert brings the edit back at its own place.

        Args:
            rev: The entry, an edit or a revert.
            message: Free text; by default the reverted entry's id and message.
            author: Free text.
            time: As for `append`.
            parent: As for `append`.
            branch: The branch to extend, by default HEAD's.
            reason: Why; free text, kept in the entry and shown by `blame`.

        Raises:
            InputError: the entry is the root, not in HEAD's history, or not in force; the message says why.
            Conflict: HEAD is not at ``parent``.
        """
        # What the revision names, and the branch that is extended, are HEAD's of one moment.
        with self.database.read() as connection:
            branch = branch or rows.head(connection)[0]
            target = rows.load_entries(connection, [resolve(connection, rev)])[0]
        text = f"revert {target.id[:12]}: {target.message}".rstrip(": ") if message is None else message
        build = self._revert_of(target, text, author, time or utc_now(), reason)
        return self._extend(build, parent, branch=branch)

    def _revert_of(
        self, target: Entry, message: str, author: str, time: str, reason: str = ""
    ) -> Callable[[str], Entry]:
        def build(head: str) -> Entry:
            return Entry(
                base_model=self.base_model,
                operation="revert",
                time=time,
                parents=(head,),
                targets=(target.id,),
                author=author,
                message=message,
                reason=reason,
            )

        return build

    def check_revert(self, rev: str) -> Entry:
        """The entry that `revert` would take out of force; refuses what `revert` refuses, and changes nothing."""
        target = self.entry(rev)
        build = self._revert_of(target, "", "", utc_now())
        with self.database.read() as connection:
            self._checked(connection, build, None, lock=False)
        return target

    def start_branch(self, name: str, rev: str = rows.HEAD) -> None:
        """Make a branch at a revision; HEAD stays where it is.

        Raises:
            InputError: no such revision, or a name that cannot be one or is taken.
        """
        with self.database.write() as connection:
            branches.start(connection, name, resolve(connection, rev))

    def check_branch(self, name: str, rev: str = rows.HEAD) -> str:
        """The entry that `start_branch` would make a branch at; refuses what it refuses, and changes nothing."""
        with self.database.read() as connection:
            branches.check_start(connection, name)
            return resolve(connection, rev)

    def switch(self, name: str) -> None:
        """Make HEAD name a branch, which then is the one that is extended.

        Raises:
            InputError: there is no such branch.
        """
        with self.database.write() as connection:
            branches.switch(connection, name)

    def delete_branch(self, name: str) -> str:
        """Delete a branch and return the entry it was at; the entries stay until `gc` collects them.

        Raises:
            InputError: there is no such branch, or HEAD is on it.
        """
        with self.database.write() as connection:
            return branches.remove(connection, name)

    def check_delete_branch(self, name: str) -> str:
        """The entry of a branch that `delete_branch` would delete; refuses what it refuses, and changes nothing."""
        with self.database.read() as connection:
            return branches.check_remove(connection, name)

    def reset(
        self, rev: str, *, branch: str | None = None, expected: str | None = None, message: str | None = None
    ) -> str:
        """Put a branch at another entry; where it was stays in the reflog, so `undo` brings it back.

        Args:
            rev: Where it shall be.
            branch: The branch, by default HEAD's.
            expected: Revision it must be at now; where another writer moved it, nothing changes.
            message: Line of the reflog.

        Returns:
            Id of the entry it was at.

        Raises:
            InputError: no such revision or branch.
            Conflict: the branch is not at ``expected``.
        """
        with self.database.write() as connection:
            new = resolve(connection, rev)
            return branches.reset(
                connection, branch or rows.head(connection)[0], new,
                expected=None if expected is None else resolve(connection, expected),
                message=message or f"reset: to {new[:12]}",
            )  # fmt: skip

    def undo(self, branch: str | None = None, *, message: str | None = None) -> Move:
        """Take back the last move of a branch; taking that back in turn is a redo.

        Args:
            branch: The branch, by default HEAD's.
            message: Line of the reflog; by default what was undone.

        Returns:
            The move that was taken back.

        Raises:
            InputError: there is no such branch, or it has not moved yet.
        """
        with self.database.write() as connection:
            return reflog.undo(connection, branch or rows.head(connection)[0], message)

    def check_undo(self, branch: str | None = None) -> Move:
        """The move that `undo` would take back; refuses what `undo` refuses, and changes nothing."""
        with self.database.read() as connection:
            return reflog.last_move(connection, branch or rows.head(connection)[0])

    def add_scores(self, rev: str, kind: str, values: Values) -> None:
        """Write scores of the state that an entry made.

        Args:
            rev: The entry.
            kind: Such as "counterfact", "tasks", "forgetting" or "samples".
            values: Key -> JSON value; keys that are there already get the new value, others stay.

        Raises:
            InputError: no such entry, or a value is not JSON (NaN and infinity are not).
        """
        check_scores(kind, values)
        with self.database.write() as connection:
            put_scores(connection, resolve(connection, rev), kind, values)

    def sign(self, rev: str, key: Ed25519PrivateKey, *, dry_run: bool = False) -> tuple[Signature, bool]:
        """Sign an entry, and with it everything before it.

        Args:
            rev: The entry.
            key: Private key (`ledger.upkeep.signing.load_key`).
            dry_run: Make the signature, and store nothing.

        Returns:
            The signature, and whether the ledger had none of the key on the entry yet; it keeps the first.
        """
        signature = sign(self.resolve(rev), key)
        if dry_run:
            with self.database.read() as connection:
                return signature, all(s.key != signature.key for s in signatures_of(connection, [signature.entry]))
        with self.database.write() as connection:
            return signature, bool(add_signatures(connection, [signature]))

    def gc(
        self,
        *,
        keep_days: float | None = KEEP_DAYS,
        grace: float = GRACE_SECONDS,
        dry_run: bool = False,
        all_registered: bool = False,
        without: Collection[str] = (),
    ) -> Garbage:
        """Remove what nothing leads to any more (`ledger.upkeep.gc.collect`, which has the rules and the arguments)."""
        return collect(
            self.database, self.store, keep_days=keep_days, grace=grace, dry_run=dry_run,
            all_registered=all_registered, without=without,
        )  # fmt: skip

    def forget_user(self, place: str, *, dry_run: bool = False) -> list[str]:
        """Unregister a ledger that is gone for good from the object store (`ledger.database.store_users.forget`).

        Args:
            place: Its directory, its database's file or URL, or the name of the registration's file.
            dry_run: Only look.

        Returns:
            The registrations that were, or would be, removed.

        Raises:
            InputError: no such ledger is registered, or it is there and can be opened.
        """
        return forget(self.database, self.store, place, dry_run=dry_run)

    def set_defaults(
        self, changes: Mapping[str, Any], more: Mapping[str, Sequence[Any]] | None = None
    ) -> dict[str, Any]:
        """Keep options for this ledger; those that are not named stay, and None takes one out.

        One transaction: of two writers at once both have their say. They do not travel with bundles.

        Args:
            changes: Option -> value.
            more: Option -> items that its list gets besides.

        Returns:
            What is kept now.
        """
        with self.database.write() as connection:
            return keep_defaults(connection, changes, more)

    def keep_signers(self, signers: Mapping[str, str] | None) -> None:
        """Keep in the ledger whose signatures to ask for where nobody says, or no longer keep any.

        Whoever can write the database can change this: it is a reminder, and no protection.

        Args:
            signers: Public key -> name, as `ledger.upkeep.signers.read_signers` gives them; None for none.
        """
        with self.database.write() as connection:
            keep_signers(connection, signers)

    def _extend(
        self,
        build: Callable[[str], Entry],
        parent: str | None,
        adapter: Adapter | None = None,
        scores: Mapping[str, Values] | Callable[[Entry], Mapping[str, Values]] | None = None,
        branch: str | None = None,
    ) -> Entry:
        """Object durable first, then entry, ref and scores in one transaction."""
        given = {} if scores is None or callable(scores) else scores
        for kind, values in given.items():
            check_scores(kind, values)
        # What will be refused is refused before anything is written.
        with self.database.read() as connection:
            # From here on it is this branch, wherever others put HEAD while the object is written.
            branch, _, _ = self._checked(connection, build, parent, branch, lock=False)
        if adapter is not None:
            self.join_store()
        manifest = None if adapter is None else self.store.put(adapter.digest, self.named(adapter).save_pretrained)
        with self.database.write() as connection:
            name, entry, generation = self._checked(connection, build, parent, branch, lock=True)
            if manifest is not None:
                self._still_there(manifest)
                rows.record_manifest(connection, manifest)
            rows.insert_entry(connection, entry, generation)
            line = f"{entry.operation}: {entry.message}"
            rows.move_ref(connection, name, entry.parents[0], entry.id, time=utc_now(), message=line)
            for kind, values in (scores(entry) if callable(scores) else given).items():
                put_scores(connection, entry.id, kind, values)
        return entry

    def named(self, adapter: Adapter) -> Adapter:
        """The adapter with the ledger's name of the base model, which entries vouch for and its digest does not."""
        return adapter if adapter.base_model == self.base_model else replace(adapter, base_model=self.base_model)

    def _checked(
        self,
        connection: Connection,
        build: Callable[[str], Entry],
        parent: str | None,
        branch: str | None = None,
        *,
        lock: bool,
    ) -> tuple[str, Entry, int]:
        if branch is None:
            branch, head = rows.head(connection, lock=lock)
        else:
            found = rows.tip(connection, branch, lock=lock)
            if found is None and parent is not None and branch != rows.HEAD:
                raise Conflict(branch, resolve(connection, parent), None)
            head = branches.require(connection, branch) if found is None or branch == rows.HEAD else found
        expected = head if parent is None else resolve(connection, parent)
        if expected != head:
            raise Conflict(branch, expected, head)
        history = load_history(connection, head)
        entry = build(head)
        graph.check_next(history, entry)
        return branch, entry, history[-1].generation + 1

    def join_store(self) -> None:
        """Register with the object store, before anything is written there: gc of other ledgers then asks this one."""
        if not self._joined:
            join(self.database, self.store)
            self._joined = True

    def _still_there(self, manifest: Manifest) -> None:
        # An orphan that was taken over could have been collected since; with the write lock held it no longer can.
        if self.store.manifest(manifest.digest) is None:
            raise EnvironmentFailure(f"object {manifest.digest[:12]} vanished while it was appended; try again")

    def close(self) -> None:
        """Close the database connections."""
        self.database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _other_model(this: str, model: BaseModel, other: str, other_model: BaseModel) -> str:
    return (
        f"{this} belongs to base model '{model.name}' (fingerprint {model.fingerprint[:12]}), {other} to "
        f"'{other_model.name}' (fingerprint {other_model.fingerprint[:12]})"
    )
