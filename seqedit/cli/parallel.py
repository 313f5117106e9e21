"""The command line in several processes: rank 0 runs the command, the others work for it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from seqedit.parallel.place import Place

if TYPE_CHECKING:
    from seqedit.parallel.ranks import Job, Ranks


def ranks_of(context: typer.Context) -> Ranks | None:
    """The processes that a command was started in; None where it is alone."""
    return context.find_root().obj


def run_in_ranks(command: Callable[[Ranks | None], int]) -> int:
    """Run a command, in rank 0 where there are several processes; the others return with its exit code.

    Args:
        command: Runs with the processes (None where it is alone) and returns its exit code.

    Raises:
        EnvironmentFailure: the environment names several processes that do not find each other.
    """
    place = Place.from_environment()
    if place.size == 1:
        return command(None)
    if place.rank:
        # A worker has nothing to put in order; ended at once, it does not keep whoever ends it waiting.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    else:
        # What torchrun sends when another rank has failed: end as if interrupted, with ledger and files in order.
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    from seqedit.parallel.ranks import Ranks

    ranks = Ranks(place, jobs())
    code = 1  # of the workers, should the command end in an exception that nobody foresaw
    try:
        code = ranks.serve() if place.rank else command(ranks)
    finally:
        if not place.rank:
            # torchrun ends all when it sees the first one leave with an error; ours leaves with its own code.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ranks.close(code)
    return code


def __getattr__(name: str) -> Any:
    if name == "JOBS":
        return jobs()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def jobs() -> Mapping[str, Job]:
    """Name -> job, for `Ranks`; imports what computes, which a command in one process may not need."""
    from seqedit.moments import split as split_moments
    from seqedit.scoring import split as split_scoring
    from seqedit.targets import split as split_editing

    return {**split_editing.JOBS, **split_moments.JOBS, **split_scoring.JOBS}
