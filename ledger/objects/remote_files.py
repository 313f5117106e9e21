"""An fsspec file system of which one can rely on two things: what it raises, and that it connects again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fsspec

from ledger.url_secrets import without_password, without_secrets
from seqedit.errors import EnvironmentFailure

# These say something about a path; every other error is one of the connection, the server or its disk.
_ABOUT_A_PATH = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, NotImplementedError)


class RemoteFiles:
    """The file system of a URL. It connects when it is first used, and again after a failure.

    Its methods are those of fsspec's file systems. What they raise is one of the errors about a path, as Python's own
    file functions do, or `EnvironmentFailure`: the clients of each protocol have error classes of their own.

    Args:
        url: fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connected: tuple[Any, str] | None = None

    @property
    def root(self) -> str:
        """Path of the URL in the file system."""
        return str(self._guarded(lambda fs, root: root))

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *arguments, **options: self._guarded(lambda fs, _: getattr(fs, method)(*arguments, **options))

    def _guarded(self, action: Callable[[Any, str], Any]) -> Any:
        # A session may compute for hours between two calls, and servers drop idle connections.
        was_connected = self._connected is not None
        try:
            return self._attempt(action)
        except EnvironmentFailure:
            if not was_connected:
                raise
        return self._attempt(action)

    def _attempt(self, action: Callable[[Any, str], Any]) -> Any:
        try:
            if self._connected is None:
                # fsspec keeps file systems for the next who asks, broken ones too.
                self._connected = fsspec.core.url_to_fs(self.url, skip_instance_cache=True)
            return action(*self._connected)
        except _ABOUT_A_PATH:
            raise
        except Exception as error:
            self._connected = None
            said = without_secrets(" ".join(str(error).split()), self.url)
            raise EnvironmentFailure(
                f"object store {without_password(self.url)}: {type(error).__name__}: {said}"
            ) from error
