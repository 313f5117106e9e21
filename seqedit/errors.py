"""Exceptions of the project, each with the exit code its cause has on the command line."""

from __future__ import annotations


class SeqeditError(Exception):
    """Base of every error raised on purpose; its message is one line that names the offending thing."""

    exit_code = 1


class CheckFailed(SeqeditError):
    """The thing asked for does not hold: verification found damage, a gate tripped."""

    exit_code = 1


class InputError(SeqeditError, ValueError):
    """Wrong usage or input: an unknown method, a bad request file, a missing model."""

    exit_code = 2


class RequestError(InputError):
    """A request or record that cannot be used; the message names the record and the field."""


class ModelError(InputError):
    """A model whose structure, weights or tokenizer cannot be edited as asked."""


class NumericsError(SeqeditError, ArithmeticError):
    """A linear system too near to singular to be solved, or a result that is not finite."""

    exit_code = 1


class EnvironmentFailure(SeqeditError, OSError):
    """Disk, database or network failed; nothing is known to be wrong with the input."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """An interrupt (Ctrl-C) of which is known what was finished before it, as its message says.

    Args:
        message: What is kept and what is not.
        go_on: What to add to the same command to go on; () for the same command as it is, None where nothing goes on.
    """

    exit_code = 130

    def __init__(self, message: str, go_on: tuple[str, ...] | None = ()) -> None:
        super().__init__(message)
        self.go_on = go_on
