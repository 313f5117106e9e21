"""What a verb says when it is interrupted (Ctrl-C): what is kept, and the very command that goes on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from seqedit.errors import Interrupted


@contextmanager
def interrupts_told(kept: Callable[[], str], go_on: tuple[str, ...] | None = ()) -> Iterator[None]:
    """Within the block an interrupt is told with what it leaves.

    Args:
        kept: Says what is kept, when it is asked.
        go_on: As for `Interrupted`.

    Raises:
        Interrupted: instead of a bare `KeyboardInterrupt`.
    """
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {kept()}", go_on) from error


def told(interrupt: Interrupted, arguments: Sequence[str]) -> str:
    """The whole line for an interrupt.

    Args:
        interrupt: What was raised.
        arguments: The command's own arguments.
    """
    if interrupt.go_on is None:
        return str(interrupt)
    more = [one for one in interrupt.go_on if one not in arguments]
    return f"{interrupt}; go on with: {shlex.join(['seqedit', *arguments, *more])}"
