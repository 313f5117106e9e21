"""A ledger whose states can be named for good."""

from __future__ import annotations

from ledger.database import rows
from ledger.history.entries import check_text, check_time, utc_now
from ledger.queries import tags
from ledger.queries.revisions import resolve
from ledger.queries.tags import Tag
from ledger.questions import Questions


class Tagging(Questions):
    """A history of edits, of which states have names that do not move."""

    def tag(
        self,
        name: str,
        rev: str = rows.HEAD,
        *,
        message: str = "",
        author: str = "",
        time: str | None = None,
        force: bool = False,
    ) -> Tag:
        """Name a state for good: revisions resolve the name, `gc` keeps what it leads to, bundles carry it.

        Args:
            name: As a branch's; no branch may have it.
            rev: The state.
            message: Free text.
            author: Free text.
            time: ISO 8601 UTC; now by default.
            force: Move a tag of this name.

        Raises:
            InputError: a name that cannot be one or that a branch has, or a tag that is there, without ``force``.
        """
        made_at = time or utc_now()
        check_time(made_at)
        for text, what in ((message, "message"), (author, "author")):
            check_text(text, f"the tag's {what}")
        with self.database.write() as connection:
            made = Tag(name, resolve(connection, rev), message, author, made_at)
            tags.put(connection, made, force=force)
        return made

    def check_tag(self, name: str, rev: str = rows.HEAD, *, force: bool = False) -> str:
        """The entry that `tag` would name; refuses what it refuses, and changes nothing."""
        with self.database.read() as connection:
            entry = resolve(connection, rev)
            tags.check_put(connection, name, entry, force=force)
        return entry

    def delete_tag(self, name: str) -> str:
        """Delete a tag and return the entry it was at.

        Raises:
            InputError: there is no such tag.
        """
        with self.database.write() as connection:
            return tags.remove(connection, name)
