"""A session's branch extended by what others have made: a bundle, a Hub repository."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from seqedit.library.giving import Giving

if TYPE_CHECKING:
    from ledger.bundles.import_bundle import Imported


class Taking(Giving):
    """A session with the ways in as methods."""

    def import_bundle(
        self,
        path: str | Path,
        *,
        branch: str | None = None,
        signers: Collection[str] | None = None,
        at_least: str | None = None,
        allow_older: bool = False,
        dry_run: bool = False,
    ) -> Imported:
        """Check a bundle, add what the ledger lacks of it, and bring the model to the new state.

        Args:
            path: What `export` (``format="bundle"``) wrote.
            branch: Branch to extend, made where there is none; by default the session's own.
            signers: Public keys, one of which must have signed the newest entry; by default those the ledger keeps.
            at_least: Id of the newest entry that is known: a history without it is refused.
            allow_older: With signers, also take a state older than a signed one that the ledger has.
            dry_run: Check everything, and change nothing.

        Raises:
            InputError: no bundle, or one of another base model or history.
            CheckFailed: it is damaged or made up, no signer vouches for it, or it is older than what is known.
            Diverged: the branch has entries that the bundle does not continue.
            BranchMoved: another writer moved the session's branch before.
        """
        from ledger.bundles.import_bundle import take_bundle

        self.check_unmoved()
        name = self.branch if branch is None else branch
        found = take_bundle(
            self.ledger, path, branch=name, signers=signers, at_least=at_least, allow_older=allow_older,
            dry_run=dry_run,
        )  # fmt: skip
        if not dry_run and name == self.branch and found.new is not None:
            self.follow(found.new)
        return found

    def pull(
        self,
        repository: str,
        *,
        revision: str | None = None,
        branch: str | None = None,
        signers: Collection[str] | None = None,
        at_least: str | None = None,
        allow_older: bool = False,
        dry_run: bool = False,
    ) -> Imported:
        """Fetch the history that `push_to_hub` put into a Hub repository, and import it.

        Args:
            repository: Its id.
            revision: Branch, tag or commit of the repository.
            branch: As for `import_bundle`, like all that follow.
            signers: Public keys that must vouch for it.
            at_least: Newest entry that is known.
            allow_older: Also an older signed state.
            dry_run: Change nothing.

        Raises:
            InputError: no such repository or revision, no access, or no history in it; and as for `import_bundle`.
            EnvironmentFailure: the Hub cannot be reached.
        """
        from seqedit.shipping.hub import fetch_bundle

        with fetch_bundle(repository, revision=revision) as file:
            return self.import_bundle(
                file, branch=branch, signers=signers, at_least=at_least, allow_older=allow_older, dry_run=dry_run
            )
