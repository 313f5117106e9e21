"""Several processes of one run as a test starts them: seqedit's own, or torchrun around them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def place(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun would put in the environment."""
    return {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def python(*arguments: str, where: Path = ROOT, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A Python process with one thread that can import the tests."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
        "PYTHONPATH": str(ROOT), **(more or {}),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=where, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def start_ranks(arguments: Sequence[str], size: int = 2) -> list[subprocess.Popen[str]]:
    """``seqedit`` in some processes of one run."""
    port = free_port()
    return [python("-m", "seqedit", *arguments, more=place(rank, size, port)) for rank in range(size)]


def finish(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process, which has some time to end."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def alone(*arguments: str) -> tuple[int, str, str]:
    """``seqedit`` in one process with one thread."""
    return finish(python("-m", "seqedit", *arguments))
