"""The one place where text meets a terminal: every line that a verb prints goes through `say`.

What is printed may be anybody's text, so it is escaped here (`seqedit.support.printable`), and a reader that goes away,
as ``| head`` does, is no failure of the verb: the rest is dropped, the verb goes on to its end, and its exit code is
its own.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from seqedit.support.printable import json_text, one_line

LOGGERS = ("seqedit", "ledger", "evals")


def say(line: object = "", *, err: bool = False, stream: TextIO | None = None) -> None:
    r"""Print one line; a line end within it is shown as ``\n``.

    Args:
        line: What to print.
        err: To stderr instead of stdout.
        stream: To this stream instead.

    Raises:
        OSError: the stream cannot be written, for another reason than that its reader went away.
    """
    _write(one_line(str(line)) + "\n", stream if stream is not None else sys.stderr if err else sys.stdout)


def print_json(value: Any) -> None:
    """JSON on stdout."""
    _write(json_text(value, indent=1) + "\n", sys.stdout)


def finish() -> None:
    """Write out what is left in the buffers; errors as for `say`."""
    for stream in (sys.stdout, sys.stderr):
        _write("", stream)


def drop_closed() -> bool:
    """Whether stdout or stderr has lost its reader; what is still to be written there is dropped."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _has_no_reader(stream)]
    for stream in gone:
        discard(stream)
    return bool(gone)


def _has_no_reader(stream: TextIO) -> bool:
    # Asked of the pipe itself: what could not be written is no longer in the stream's buffer for a second try.
    if not hasattr(select, "poll"):  # Windows, where only the stream that raised could tell
        return True
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLERR)
    except (OSError, ValueError):  # no file, or a closed one
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def discard(stream: Any) -> None:
    """Let what is written to a stream from now on, and what is left in its buffer, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with suppress(OSError, ValueError, AttributeError):  # a stream without a file has nothing to redirect
            os.dup2(nowhere, stream.fileno())
            stream.flush()
    finally:
        os.close(nowhere)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """For the duration of a block, what the library logs as a warning is a line on stderr."""
    handler = _Lines(logging.WARNING)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Lines(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._of_facts: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            # A run reads its facts twice: before anything is imported that computes, and when it begins.
            if record.name.startswith("seqedit.facts."):
                if text in self._of_facts:
                    return
                self._of_facts.add(text)
            say(f"seqedit: {record.levelname.lower()}: {text}", err=True)
        except Exception:
            self.handleError(record)


def _write(text: str, stream: TextIO | None) -> None:
    if stream is None:  # the caller closed it, as with >&-
        return
    try:
        stream.write(_encodable(text, stream))
        stream.flush()
    except BrokenPipeError:
        discard(stream)
    except OSError:
        discard(stream)  # or the interpreter would try, and fail, once more on its way out
        raise


def _encodable(text: str, stream: TextIO) -> str:
    """Text with escapes for what the stream's encoding has no bytes for."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
