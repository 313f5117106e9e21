"""A private PostgreSQL server for the tests: installed where it is missing, started, and stopped at the end.

``SEQEDIT_TEST_POSTGRESQL_URL`` names a server that is there already, in whose database schemas may be made;
``SEQEDIT_TEST_POSTGRESQL=off`` leaves the tests that need one out, and with ``required`` they fail where they would
be skipped.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from sqlalchemy.engine import URL, make_url

SWITCH = "SEQEDIT_TEST_POSTGRESQL"
URL_VARIABLE = "SEQEDIT_TEST_POSTGRESQL_URL"
DEBIAN = Path("/usr/lib/postgresql")
INSTALL = ["apt-get", "install", "-y", "--no-install-recommends", "postgresql"]
INSTALL_SECONDS = 300
SECONDS = 60


def required() -> bool:
    """Whether a missing server is a failure."""
    return os.environ.get(SWITCH) == "required"


class NoServer(Exception):
    """There is no server to be had; the message says why."""


@contextmanager
def database() -> Iterator[URL]:
    """URL of a database in which schemas may be made: that of `URL_VARIABLE`, or of a server of its own.

    Raises:
        NoServer: it is switched off, not installed and not installable, or it does not start.
    """
    if os.environ.get(SWITCH) == "off":
        raise NoServer(f"{SWITCH}=off")
    if URL_VARIABLE in os.environ:
        yield make_url(os.environ[URL_VARIABLE])
    else:
        with run() as server:
            yield server.url


@contextmanager
def run() -> Iterator[Server]:
    """A running server of its own, which is stopped at the end.

    Raises:
        NoServer: it is not installed and not installable, or it does not start.
    """
    binaries = _binaries()
    with tempfile.TemporaryDirectory(prefix="seqedit-pg-") as directory:
        os.chmod(directory, 0o755)
        home = Path(directory) / "home"
        home.mkdir(mode=0o700)
        server = Server(binaries, home)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Server:
    """A server whose files and socket are in a directory; everyone who may enter it is its superuser."""

    def __init__(self, binaries: Path, home: Path) -> None:
        self._binaries, self._home, self._data = binaries, home, home / "data"
        self._run = _Runner(home)
        self._run([binaries / "initdb", "-D", self._data, "-U", "ledger", "-A", "trust", "-E", "UTF8", "--no-sync"])
        self.url = URL.create("postgresql", username="ledger", database="postgres", query={"host": str(home)})

    def start(self) -> None:
        # A socket in the directory instead of a port, which someone else might have.
        options = f"-k {self._home} -c listen_addresses='' -c max_connections=60 -c shared_buffers=32MB"
        log = self._home / "log"
        self._run([self._pg_ctl, "-D", self._data, "-l", log, "-o", options, "-w", "-t", str(SECONDS), "start"])

    def stop(self) -> None:
        self._run([self._pg_ctl, "-D", self._data, "-m", "immediate", "-w", "stop"])

    def kill(self) -> None:
        """Kill the server's first process; the others find it gone and end, without writing anything."""
        os.kill(int((self._data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)

    def restart(self) -> None:
        """Start it after a `kill`, as soon as the last of the old processes has let go of the shared memory."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                return self.start()
            except NoServer:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    @property
    def _pg_ctl(self) -> Path:
        return self._binaries / "pg_ctl"


class _Runner:
    """Runs the server's programs, as an unprivileged user where the tests run as root (they refuse root)."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.user: str | None = None
        if os.geteuid() == 0:
            known = {entry.pw_name for entry in pwd.getpwall()}
            self.user = next((name for name in ("postgres", "nobody") if name in known), None)
            if self.user is None:
                raise NoServer("PostgreSQL refuses to run as root, and there is neither user postgres nor nobody")
            shutil.chown(home, self.user)

    def __call__(self, command: list[str | Path]) -> None:
        words = [str(word) for word in command]
        # Files instead of pipes: the server inherits them, and a pipe would stay open as long as it runs.
        with tempfile.TemporaryFile() as output:
            try:
                subprocess.run(
                    words, check=True, user=self.user, group=None if self.user is None else _group(self.user),
                    extra_groups=None if self.user is None else [], cwd=self.home, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=output, timeout=2 * SECONDS,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                output.seek(0)
                said = " ".join(output.read().decode(errors="replace").split())
                raise NoServer(f"{Path(words[0]).name} failed: {error}: {said[-500:]}") from error


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


@lru_cache(maxsize=1)
def _binaries() -> Path:
    found = _find()
    if found is None:
        _install()
        found = _find()
    if found is None:
        raise NoServer("the package postgresql was installed, but initdb is not in the PATH or /usr/lib/postgresql")
    return found


def _find() -> Path | None:
    # The Debian package keeps them out of the PATH; the newest version counts.
    versions = sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    path = shutil.which("initdb")
    places = [*versions, *([Path(path).resolve().parent] if path else [])]
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def _install() -> None:
    """Install the Debian package; only root can, and only where there is apt."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoServer("PostgreSQL is not installed (Debian: apt-get install postgresql), and only root can do so")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    # A fresh machine has no package lists.
    for command in (INSTALL, ["apt-get", "update"], INSTALL):
        try:
            subprocess.run(
                command, check=True, env=quiet, stdin=subprocess.DEVNULL, capture_output=True, timeout=INSTALL_SECONDS
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = f"{error}: {(getattr(error, 'stderr', None) or b'').decode(errors='replace')[-500:]}"
        else:
            if command == INSTALL:
                return
    raise NoServer(f"PostgreSQL is not installed, and apt-get could not install it: {' '.join(said.split())}")
