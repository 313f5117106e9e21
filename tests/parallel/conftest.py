"""Processes that end with the test that started them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.parallel.processes import start_ranks

StartRanks = Callable[[list[str]], list[subprocess.Popen[str]]]


@pytest.fixture
def start_two() -> Iterator[StartRanks]:
    """Starts ``seqedit`` with some arguments in two processes of one run."""
    begun: list[subprocess.Popen[str]] = []

    def start(arguments: list[str]) -> list[subprocess.Popen[str]]:
        begun.extend(start_ranks(arguments))
        return begun[-2:]

    yield start
    for process in begun:
        if process.poll() is None:  # the test has failed
            process.kill()
            process.communicate()
