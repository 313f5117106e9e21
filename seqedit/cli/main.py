"""Entry point: runs a command and turns every failure into one line on stderr and an exit code."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from seqedit.cli.app import app
from seqedit.cli.editing import begin, edit, locate, mend, plan, stats, tune  # noqa: F401  (each adds its verbs)
from seqedit.cli.history import branches, history, operations, questions  # noqa: F401
from seqedit.cli.measuring import benchmark, compare, evaluate, runs, score, tasks  # noqa: F401
from seqedit.cli.parallel import run_in_ranks
from seqedit.cli.shipping import hub, ship, upkeep  # noqa: F401
from seqedit.cli.terminal import discard, drop_closed, finish, say, warnings_shown
from seqedit.distribution.import_names import check_import_names
from seqedit.errors import SeqeditError

if TYPE_CHECKING:
    from seqedit.parallel.ranks import Ranks


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 does not hold, 2 wrong input, 3 environment, 130 interrupted."""
    try:
        code = run(arguments)
    except Exception:  # an error of the program itself; its text may quote what others wrote
        for line in traceback.format_exc().rstrip("\n").split("\n"):
            say(line, err=True)
        code = 1
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; started by torchrun, in all its processes (docs/guide/parallel.md)."""
    try:
        check_import_names()
        with warnings_shown():
            code = run_in_ranks(lambda ranks: _run(arguments, ranks))
    except SeqeditError as error:
        code = _fail(str(error), error.exit_code)
    try:
        finish()
    except OSError as error:  # a full disk may show only when the last of the output is written
        return code or _fail(f"the output could not be written: {error.strerror or error}", 3)
    return code


def _run(arguments: Sequence[str] | None, ranks: Ranks | None) -> int:
    command = typer.main.get_command(app)
    try:
        # Not `command.main`: it ends the process with exit code 1 where the reader of the output went away.
        given = sys.argv[1:] if arguments is None else arguments
        with command.make_context("seqedit", list(given), obj=ranks) as context:
            result = command.invoke(context)
    except SeqeditError as error:
        return _fail(str(error), error.exit_code)
    except typer.Exit as error:
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt, EOFError):
        return _fail("interrupted; a run continues with --resume", 130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        # Lines of ours do not get here; the help does. Without a closed output it was another connection.
        return 0 if drop_closed() else _fail("a connection was closed by the other side", 3)
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror or error}", 3)
    except Exception as error:
        # Usage errors; which click they come from (typer brings its own) differs between typer's versions.
        show = getattr(error, "show", None)
        if show is None:
            if "torch" in sys.modules and _out_of_memory(error):
                return _fail(f"memory ran out: {str(error).strip() or type(error).__name__}", 3)
            raise
        said = io.StringIO()
        show(said)
        for line in said.getvalue().splitlines():
            say(line, err=True)
        return 2
    return result if isinstance(result, int) else 0


def _out_of_memory(error: Exception) -> bool:
    from seqedit.support.memory import is_out_of_memory  # imports torch, which `seqedit log` does not need

    return is_out_of_memory(error)


def _fail(message: str, code: int) -> int:
    try:
        say("seqedit: " + " ".join(message.split()), err=True)
    except OSError:  # the code still tells
        discard(sys.stderr)
    return code
