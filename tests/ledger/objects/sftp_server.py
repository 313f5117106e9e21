"""An SFTP server in a process of its own: `python -m tests.ledger.sftp_server DIRECTORY PORT N`.

The directory holds ``host_key`` and ``client_key.pub``, the only key that may enter, and gets ``port`` once the server
listens; its files are those in ``files``. Unless N is 0, the server is killed in the middle of the N-th write that it
is asked for, after it has written half of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh

SECONDS = 30


class Server:
    """A running server, as the tests see it."""

    def __init__(self, home: Path, port: int, dies_at_write: int) -> None:
        self.home, self.port = home, port
        (home / "port").unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.ledger.objects.sftp_server", str(home), str(port), str(dies_at_write)]
        with (home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        while not (home / "port").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the SFTP server did not start: {(home / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Site:
    """Where a server is, whether it runs or not."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "files").mkdir()
        for name in ("host_key", "client_key"):
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(home / name)
            key.write_public_key(home / f"{name}.pub")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        host_key = (home / "host_key.pub").read_text()
        (home / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")

    @property
    def url(self) -> str:
        return f"ssh://tester@127.0.0.1:{self.port}/objects"

    @property
    def options(self) -> dict[str, object]:
        """What fsspec's configuration must say of the protocol."""
        return {"client_keys": [str(self.home / "client_key")], "known_hosts": str(self.home / "known_hosts")}

    @contextmanager
    def running(self, dies_at_write: int = 0) -> Iterator[Server]:
        server = Server(self.home, self.port, dies_at_write)
        try:
            yield server
        finally:
            server.kill()


class _Files(asyncssh.SFTPServer):
    root = b""
    writes_left = 0

    def __init__(self, channel: asyncssh.SSHServerChannel) -> None:
        super().__init__(channel, chroot=self.root)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        _Files.writes_left -= 1
        if _Files.writes_left == 0:
            super().write(file_obj, offset, data[: len(data) // 2])
            file_obj.flush()  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(file_obj, offset, data)  # type: ignore[return-value]


async def _serve(home: Path, port: int) -> None:
    await asyncssh.listen(
        "127.0.0.1", port, server_host_keys=[str(home / "host_key")], sftp_factory=_Files,
        authorized_client_keys=str(home / "client_key.pub"), reuse_address=True,
    )  # fmt: skip
    (home / "port").write_text(str(port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    _Files.root = str(Path(sys.argv[1]) / "files").encode()
    _Files.writes_left = int(sys.argv[3])
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
