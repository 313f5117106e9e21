"""Row 9: a directory that may only be read."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.upkeep.signing import new_key
from seqedit.cli.main import run
from seqedit.errors import EnvironmentFailure, SeqeditError
from tests.ledger.helpers import MODEL
from tests.reliability.commands import COMMANDS, prepare
from tests.reliability.processes import as_nobody, in_child
from tests.reliability.test_kills import content

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A directory with a ledger, a key and a bundle that nobody may write, below parents that all may read."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        here = Path(directory) / "here"
        prepare(here)
        for path in (here, *here.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield here
        for path in (here, *here.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


READING = (
    ["log"],
    ["log", "--json"],
    ["show", "HEAD~1"],
    ["verify"],
    ["verify", "--shallow"],
    ["gc", "--dry-run", "--prune-now", "--grace", "0"],
    ["revert", "HEAD", "--dry-run"],
    ["sign", "--key", "KEY", "--dry-run"],
)
WRITING = (
    ["revert", "HEAD"],
    ["gc", "--prune-now", "--grace", "0"],
    ["sign", "--key", "KEY"],
)


@pytest.mark.promise(9)
@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "all"])
def test_reading_commands_work_and_writing_ones_refuse(read_only, figure, everything, capfd):
    with tempfile.TemporaryDirectory() as scratch:
        # Once with all rights: nobody may not read all of the interpreter's own files, which are loaded when needed.
        prepare(Path(scratch) / "here")
        for command in COMMANDS:
            with contextlib.suppress(SeqeditError):
                command.act(Path(scratch) / "here")
        for words in (*READING, *WRITING):
            given = [str(Path(scratch) / "here" / "key.pem") if word == "KEY" else word for word in words]
            run([*given, "--ledger", str(Path(scratch) / "here" / "ledger")])
    before = content(read_only)
    place, key = read_only / "ledger", str(read_only / "key.pem")

    def line(words: list[str]) -> list[str]:
        return [key if word == "KEY" else word for word in [*words, "--ledger", str(place)]]

    reading = READING if everything else READING[::3]
    writing = WRITING if everything else WRITING[:1]
    # The ledger has gone on since the bundle was made, so an import is refused before it writes anything.
    elsewhere = ("create", "import", "import as a new ledger")
    commands = [c for c in COMMANDS if c.name not in elsewhere] if everything else []

    def check() -> None:
        as_nobody()
        assert not os.access(place, os.W_OK)
        for words in reading:
            assert run(line(words)) == 0, words
        for words in writing:
            assert run(line(words)) == 3, words
        for command in commands:
            with pytest.raises(EnvironmentFailure, match=r"read.?only|denied"):
                command.act(read_only)

    status = in_child(check)
    said = capfd.readouterr().err
    assert status == 0, said
    assert said.count("seqedit: ") == len(writing), said
    assert str(place / "ledger.db") in said
    assert content(read_only) == before
    figure(
        f"{len(reading)} reading command lines work; {len(writing)} command lines and {len(commands)} writing "
        "operations refuse with exit code 3, nothing changed"
    )


def test_a_new_ledger_in_a_read_only_directory_is_refused(read_only):
    def check() -> None:
        as_nobody()
        with pytest.raises(OSError, match=r"ermission|read"):
            Ledger.create(read_only / "new", MODEL)
        with pytest.raises(OSError, match=r"ermission|read"):
            new_key(read_only / "new.pem")

    assert in_child(check) == 0
