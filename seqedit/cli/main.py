"""Entry point: runs a command and turns every failure into one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from seqedit.cli import (  # noqa: F401  (each adds its verbs to the app)
    begin,
    benchmark,
    branches,
    compare,
    edit,
    evaluate,
    history,
    hub,
    locate,
    mend,
    operations,
    questions,
    runs,
    score,
    ship,
    stats,
    tasks,
    upkeep,
)
from seqedit.cli.app import app
from seqedit.cli.parallel import run_in_ranks
from seqedit.errors import SeqeditError

if TYPE_CHECKING:
    from seqedit.ranks import Ranks


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 does not hold, 2 wrong input, 3 environment, 130 interrupted."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; started by torchrun, in all its processes (docs/parallel.md)."""
    try:
        return run_in_ranks(lambda ranks: _run(arguments, ranks))
    except SeqeditError as error:
        return _fail(str(error), error.exit_code)


def _run(arguments: Sequence[str] | None, ranks: Ranks | None) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(
            args=list(arguments) if arguments is not None else None,
            prog_name="seqedit", standalone_mode=False, obj=ranks,
        )  # fmt: skip
    except SeqeditError as error:
        return _fail(str(error), error.exit_code)
    except typer.Exit as error:
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted; a run continues with --resume", 130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror or error}", 3)
    except Exception as error:
        # Usage errors; which click they come from (typer brings its own) differs between typer's versions.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show(sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    print("seqedit: " + " ".join(message.split()), file=sys.stderr)
    return code
