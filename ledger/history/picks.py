"""Cherry-picks: an entry's facts once more, in another history, by the adapter that it has."""

from __future__ import annotations

from collections.abc import Callable

from ledger.history.entries import Entry
from seqedit.errors import InputError


def pick_of(
    source: Entry, *, time: str, message: str | None = None, author: str | None = None, reason: str = ""
) -> Callable[[str], Entry]:
    """What makes the entry that takes another one's adapter over, as it is, after a given one.

    Args:
        source: The entry that is picked.
        time: ISO 8601 UTC.
        message: Free text; None for that of the source.
        author: Free text; None for that of the source.
        reason: Free text.

    Raises:
        InputError: the source adds no adapter.
    """
    if source.adapter is None:
        raise InputError(f"entry {source.id[:12]} ({source.operation}) adds no adapter: nothing to cherry-pick")

    def build(head: str) -> Entry:
        return Entry(
            base_model=source.base_model,
            operation="edit",
            time=time,
            parents=(head,),
            adapter=source.adapter,
            method=source.method,
            requests=source.requests,
            facts_file=source.facts_file,
            author=source.author if author is None else author,
            message=source.message if message is None else message,
            reason=reason,
            origin=source.id,
        )

    return build
