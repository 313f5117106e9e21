"""Errors that only the ledger raises, and how failures of disk and database become the project's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError

from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from ledger.url_secrets import without_secrets
from seqedit.errors import CheckFailed, EnvironmentFailure, SeqeditError

# A flipped bit in the file's header, in its description of the tables, or in a text.
_BROKEN = ("Could not decode", "unsupported file format", "no such column", "malformed")


class Conflict(SeqeditError):
    """Another writer moved the branch since it was read; nothing was recorded.

    Attributes:
        ref: Branch that was to be moved.
        expected: Entry id that the writer built upon.
        found: Entry id that the branch has now, or None where the branch is gone.
    """

    exit_code = 1

    def __init__(self, ref: str, expected: str, found: str | None) -> None:
        self.ref, self.expected, self.found = ref, expected, found
        now = "is gone" if found is None else f"is now at {found[:12]}"
        super().__init__(
            f"branch '{ref}' was expected at {expected[:12]} but {now}: another writer was faster; nothing was "
            "recorded. Compute the edit again on the new head and retry"
        )


class BranchMoved(Conflict):
    """The branch that a session works on moved under it; what the session was about to record was not recorded.

    The weights in memory are those of ``expected``, the entry that the session knows.
    """

    exit_code = 3

    def __init__(self, ref: str, expected: str, found: str | None) -> None:
        super().__init__(ref, expected, found)
        now = "is gone" if found is None else f"is now at {found[:12]}"
        self.args = (
            f"branch '{ref}' moved under this session: its weights are those of {expected[:12]}, and the branch {now}; "
            f"nothing was recorded. Where the branch is at {expected[:12]} again (see `seqedit reflog {ref}` and "
            "`seqedit undo`), a run continues with --resume; another writer's entries stay where they are",
        )


@contextmanager
def failures(name: str, *places: object) -> Iterator[None]:
    """Turn errors of the database, the disk and the network into the project's own.

    Args:
        name: What was being used; it leads the message.
        places: URLs that were used; no secret of theirs is in the message.

    Raises:
        CheckFailed: the database file is damaged.
        EnvironmentFailure: anything else that is not the caller's doing.
    """

    def told(text: object) -> str:
        return without_secrets(str(text), *places)

    try:
        yield
    except SeqeditError:
        raise
    except DatabaseError as error:
        said = " ".join(told(error.orig).split())  # PostgreSQL's messages have several lines
        # SQLite reports a broken file as the bare base class, and some of what is broken in it as a failed operation;
        # PostgreSQL has codes for broken files and indices.
        state = getattr(error.orig, "sqlstate", None)
        broken = any(words in said for words in _BROKEN) if state is None else state in ("XX001", "XX002")
        if type(error) is DatabaseError or broken:
            raise CheckFailed(f"the database {name} is damaged: {said}") from error
        if state in ("40001", "40P01"):
            said += " (another client was in the way, nothing was recorded; try again)"
        raise EnvironmentFailure(f"the database {name} failed: {said}") from error
    except SQLAlchemyError as error:
        raise EnvironmentFailure(f"the database {name} failed: {told(error)}") from error
    except UnicodeDecodeError as error:
        # Python's SQLite module, where a message quotes what is broken.
        raise CheckFailed(f"{name} is damaged: a text in it is no UTF-8 ({told(error)})") from error
    except JSONDecodeError as error:
        # A cell of the database; readers of files have errors of their own.
        raise CheckFailed(f"{name} is damaged: a text in it is no JSON ({told(error)}); run verify") from error
    except OSError as error:
        raise EnvironmentFailure(f"{name}: {told(error)}") from error
