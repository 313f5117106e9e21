"""Errors that only the ledger raises."""

from __future__ import annotations

from seqedit.errors import SeqeditError


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
