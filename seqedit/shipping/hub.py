"""A state on the HuggingFace Hub: a stock PEFT adapter at the top of a repository, its whole history beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.bundles.import_bundle import Diverged
from ledger.bundles.write import BundlePlan, plan_bundle, write_bundle
from ledger.reading import Reader
from seqedit.adapters.card import is_hub_id
from seqedit.adapters.hub import NotLoggedIn, hub_errors
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError
from seqedit.shipping.export import Exported, write_adapter

FOLDER = "ledger"
BUNDLE = f"{FOLDER}/bundle.zip"
TIP = f"{FOLDER}/tip.json"
"""Which state the repository holds, so that a push need not fetch the bundle to see what it would replace."""


@dataclass(frozen=True)
class Pushed:
    """What a push did, or would do.

    Attributes:
        repository: Id of the repository.
        created: Whether it was made; None where a dry run could not look.
        replaced: Id of the entry whose state it held before; None where it held none.
        commit: Id of the commit; None in a dry run.
        url: Where it is; None in a dry run.
        bundle_bytes: Size of the bundle's objects.
        not_looked: Why a dry run could not look at the repository; None where it could.
    """

    repository: str
    created: bool | None
    replaced: str | None
    commit: str | None
    url: str | None
    bundle_bytes: int
    not_looked: str | None = None


def push_state(
    ledger: Reader,
    exported: Exported,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    scores: bool = True,
    force: bool = False,
    dry_run: bool = False,
) -> Pushed:
    """Put a state into a Hub repository, as one commit.

    Args:
        ledger: The ledger.
        exported: The state's adapter.
        repository: Its id, such as ``me/edits``; made where there is none.
        private: Whether a repository that is made is private.
        revision: Branch of the repository; made where there is none.
        message: Message of the commit.
        scores: Whether recorded scores go with the history.
        force: Also where the repository holds a state that is not part of this one's history.
        dry_run: Look, and change nothing. Without a login or a network everything is checked that is here, and the
            result says that nobody looked at the repository.

    Raises:
        InputError: no valid id, no such repository, a token that may not do this, or a base model that has only a
            local path for a name.
        Diverged: the repository holds entries that this history does not continue, or changed meanwhile.
        EnvironmentFailure: the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    base = exported.adapter.base_model.name
    if not is_hub_id(base):
        raise InputError(
            f"the base model is known here as '{base}', which means nothing to others; give its Hub id with --base-name"
        )
    plan = plan_bundle(ledger, exported.shipped.rev, scores=scores)
    api = HfApi(library_name="seqedit")
    try:
        repository, head, replaced, missing = _look(api, repository, revision, plan, force)
    except (NotLoggedIn, EnvironmentFailure) as error:
        if not dry_run:
            raise
        return Pushed(repository, None, None, None, None, plan.object_bytes, str(error))
    if dry_run:
        return Pushed(repository, missing, replaced, None, None, plan.object_bytes)
    with hub_errors(repository, conflict=Diverged), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "repository"
        write_adapter(exported, folder, place=repository)
        (folder / FOLDER).mkdir()
        write_bundle(ledger, plan, folder / BUNDLE)
        (folder / TIP).write_text(json.dumps({"tip": plan.tip, "entries": len(plan.entries)}) + "\n", "utf-8")
        if missing:
            api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        # One commit, so that nobody sees the adapter of one state beside the history of another; upload_folder
        # may split a large one. The parent is the commit that was looked at: a push in between is refused.
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files],
            commit_message=message or f"seqedit: state {plan.tip[:12]}, {len(exported.shipped.entries)} batches",
            revision=revision,
            parent_commit=head,
        )
    return Pushed(repository, missing, replaced, commit.oid, commit.commit_url, plan.object_bytes)


def _look(
    api: Any, repository: str, revision: str | None, plan: BundlePlan, force: bool
) -> tuple[str, str | None, str | None, bool]:
    """The repository's full id, its newest commit, the state it holds, and whether it has to be made."""
    with hub_errors(repository, conflict=Diverged):
        account = api.whoami()["name"]
        repository = repository if "/" in repository else f"{account}/{repository}"
        head = _head(api, repository, revision)
        replaced = None if head is None else _tip(api, repository, head)
        if replaced is not None and replaced not in plan.entries and not force:
            raise Diverged(
                f"{repository} holds state {replaced[:12]}, which is not in the history of {plan.tip[:12]}; "
                f"`seqedit pull {repository} --branch NAME` fetches it, --force replaces it"
            )
        return repository, head, replaced, head is None and not api.repo_exists(repository)


@contextmanager
def fetch_bundle(repository: str, *, revision: str | None = None) -> Iterator[Path]:
    """The history that a repository holds, as a bundle that is not checked yet; gone where the block ends.

    Args:
        repository: Its id.
        revision: Branch, tag or commit.

    Raises:
        InputError: no such repository or revision, no access, or it was not written by `push_state`.
        EnvironmentFailure: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    api = HfApi(library_name="seqedit")
    with tempfile.TemporaryDirectory() as scratch:
        with hub_errors(repository, conflict=Diverged):
            commit = api.model_info(repository, revision=revision).sha
            try:
                # Not through the cache: the ledger keeps what it takes, so a second copy would only cost space.
                file = api.hf_hub_download(repository, BUNDLE, revision=commit, local_dir=scratch)
            except LocalEntryNotFoundError:  # the network, not the repository
                raise
            except EntryNotFoundError as error:
                raise InputError(
                    f"{repository} holds no {BUNDLE}; only what `seqedit push` wrote can be pulled"
                ) from error
        yield Path(file)


def _head(api: Any, repository: str, revision: str | None) -> str | None:
    """Newest commit of the repository's branch; None where there is no such repository or branch."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return str(api.model_info(repository, revision=revision).sha)
    except GatedRepoError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None


def _tip(api: Any, repository: str, commit: str) -> str | None:
    """The state that a commit holds, or None where it holds no history."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with tempfile.TemporaryDirectory() as scratch:
        try:
            file = api.hf_hub_download(repository, TIP, revision=commit, local_dir=scratch)
        except LocalEntryNotFoundError:  # the network, not the repository
            raise
        except EntryNotFoundError:
            return None
        try:
            return str(json.loads(Path(file).read_text("utf-8"))["tip"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckFailed(f"{repository}: {TIP} is malformed ({error}); --force replaces it") from error
