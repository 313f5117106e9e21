"""Entry point: runs a command and turns every failure into one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.interrupts import told
from seqedit.cli.parallel import run_in_ranks
from seqedit.cli.terminal import discard, drop_closed, finish, say, warnings_shown
from seqedit.cli.usage import is_usage_error, tell_usage_error
from seqedit.distribution.import_names import check_import_names
from seqedit.errors import Interrupted, SeqeditError

if TYPE_CHECKING:
    from seqedit.parallel.ranks import Ranks

COMPLETE = "_SEQEDIT_COMPLETE"
"""Set by the shell's script that ``seqedit --show-completion`` prints."""


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
    command: Any = typer.main.get_command(app)
    if COMPLETE in os.environ:  # a shell asks what may follow; it reads stdout, and the process ends here
        command._main_shell_completion({}, "seqedit", COMPLETE)
    given = sys.argv[1:] if arguments is None else arguments
    try:
        # Not `command.main`: it ends the process with exit code 1 where the reader of the output went away.
        with command.make_context("seqedit", list(given), obj=ranks) as context:
            result = command.invoke(context)
    except SeqeditError as error:
        return _fail(str(error), error.exit_code)
    except typer.Exit as error:
        return int(error.exit_code)
    except Interrupted as error:
        return _fail(told(error, list(given)), error.exit_code)
    except (typer.Abort, KeyboardInterrupt, EOFError):
        return _fail("interrupted; what was finished before is kept, and what was not is not recorded", 130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        # Lines of ours do not get here; the help does. Without a closed output it was another connection.
        return 0 if drop_closed() else _fail("a connection was closed by the other side", 3)
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror or error}", 3)
    except Exception as error:
        if is_usage_error(error):
            return tell_usage_error(error)
        if "torch" in sys.modules and _out_of_memory(error):
            return _fail(f"memory ran out: {str(error).strip() or type(error).__name__}", 3)
        raise
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
