"""Adapters on the HuggingFace Hub: fetched, pushed, and the client's errors as the project's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqedit.adapters.card import is_hub_id
from seqedit.adapters.file_names import CONFIG, SIDECAR, VALUES, WEIGHTS
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError, SeqeditError

_LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write there"


class NotLoggedIn(InputError):
    """The Hub is asked for what it only does for someone, and no token says who asks."""


def fetch_adapter(repository: str, *, revision: str | None = None) -> Path:
    """The files of an adapter, in the Hub's cache.

    Args:
        repository: Id, such as ``me/edits``.
        revision: Branch, tag or commit.

    Raises:
        InputError: no such repository or revision, or no access.
        EnvironmentFailure: the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    folder: Path | None = None
    with hub_errors(repository):
        for name in (SIDECAR, CONFIG, WEIGHTS, VALUES):
            # All of one commit, which the place of the first in the cache names: this works without a network too.
            commit = revision if folder is None else folder.name
            try:
                folder = Path(hf_hub_download(repository, name, revision=commit, library_name="seqedit")).parent
            except LocalEntryNotFoundError:  # the network, not the repository
                raise
            except EntryNotFoundError as error:
                raise InputError(f"{repository} holds no {name}; it is no adapter that seqedit wrote") from error
    assert folder is not None
    return folder


def push_adapter(
    write: Callable[[Path], None], repository: str, *, private: bool, revision: str | None, message: str | None
) -> str:
    """Put an adapter's files into a repository as one commit; one that is not there is made.

    Args:
        write: Writes the files into a directory that does not exist yet.
        repository: Id of the repository.
        private: Whether one that is made is private.
        revision: Branch; made where there is none.
        message: Message of the commit.

    Returns:
        Address of the commit.

    Raises:
        InputError: not logged in, or no access.
        EnvironmentFailure: the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="seqedit")
    with hub_errors(repository), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "adapter"
        write(folder)
        if not api.repo_exists(repository):
            api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        files = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
        commit = api.create_commit(repository, files, commit_message=message or "seqedit: adapter", revision=revision)
    return str(commit.commit_url)


@contextmanager
def hub_errors(repository: str, conflict: type[SeqeditError] = CheckFailed) -> Iterator[None]:
    """Turn errors of the Hub's client into the project's own, each saying what to do.

    Args:
        repository: Id of the repository that is asked.
        conflict: What is raised where the repository changed meanwhile.
    """
    if not is_hub_id(repository):
        raise InputError(f"'{repository}' is no repository id; it looks like me/edits")
    try:
        yield
    except SeqeditError:
        raise
    except Exception as error:
        translated = _translated(repository, error, conflict)
        if translated is None:
            raise
        raise translated from error


def _translated(repository: str, error: BaseException, conflict: type[SeqeditError]) -> SeqeditError | None:
    """The project's error for one of the client's, or None for what is not the Hub's."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalTokenNotFoundError):
        return NotLoggedIn(f"the Hub knows no one here: {_LOGIN}")
    if isinstance(error, errors.HFValidationError):
        return InputError(f"'{repository}' is no repository id; it looks like me/edits ({_first(error)})")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return EnvironmentFailure("the Hub is switched off by HF_HUB_OFFLINE; unset it")
    if isinstance(error, errors.HfHubHTTPError):
        return _of_status(repository, error, conflict)
    # What went wrong while a file was fetched or uploaded is the cause of these two.
    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        return _translated(repository, error.__cause__, conflict)
    # The client's transport (httpx or its successor) has its own tree of errors.
    if isinstance(error, errors.LocalEntryNotFoundError) or _is_transport_error(error):
        return EnvironmentFailure(
            f"the Hub cannot be reached ({_first(error)}); check the network, and HF_ENDPOINT if it is set"
        )
    if isinstance(error, ValueError):
        return CheckFailed(f"the Hub does not take it: {' '.join(str(error).split())}")
    return None


def _is_transport_error(error: BaseException) -> bool:
    return any(base.__name__ == "TransportError" for base in type(error).__mro__)


def _of_status(repository: str, error: Any, conflict: type[SeqeditError]) -> SeqeditError:
    from huggingface_hub import errors

    status = getattr(error.response, "status_code", None)
    said = getattr(error, "server_message", None) or _first(error)
    if isinstance(error, errors.GatedRepoError):
        return InputError(f"access to {repository} must be asked for on its page, with the account of the token")
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{repository} has no such revision; see its branches and tags on the Hub")
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"the Hub has no repository {repository}, or the token may not see it; check the name, or {_LOGIN}"
        )
    if status == 401:
        return InputError(f"the Hub does not accept the token ({said}); {_LOGIN}")
    if status == 403:
        return InputError(f"the token may not do this with {repository} ({said}); {_LOGIN}")
    if status == 412:
        return conflict(f"{repository} changed while this was pushed; nothing was pushed. Try again")
    return EnvironmentFailure(f"the Hub failed with status {status} ({said}); try again later")


def _first(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
