"""What a rebase or reorder did to a history, as an entry of the new one keeps it.

A replay makes a new history, and the old one goes when nothing leads to it any more. What the old one said of a fact
that is not in the new one (who taught it, who took it out, and why) is therefore written into the new one, in its last
entry, whose digest covers it and which travels in bundles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.history import graph
from ledger.history.entries import Entry
from seqedit.errors import InputError
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request


@dataclass(frozen=True)
class Event:
    """What was done to an entry, by whom, and why.

    Attributes:
        entry: Id of the entry that did it.
        operation: ``revert``, ``swap``, ``merge``, ``rebase`` or ``reorder``; ``edit`` where facts were superseded.
        time: ISO 8601 UTC.
        author: Free text.
        message: Free text.
        reason: Free text; empty where none was given.
    """

    entry: str
    operation: str
    time: str = ""
    author: str = ""
    message: str = ""
    reason: str = ""

    @classmethod
    def of(cls, entry: Entry) -> Event:
        """What an entry did."""
        return cls(entry.id, entry.operation, entry.time, entry.author, entry.message, entry.reason)


@dataclass(frozen=True)
class Dropped:
    """An entry of the old history that the new one does not have.

    Attributes:
        entry: What it was.
        by: What had taken it out of force.
        facts: Position -> request of those of its facts that no entry in force of the new history teaches.
    """

    entry: Event
    by: Event | None
    facts: Mapping[int, Request]


@dataclass(frozen=True)
class Rewrite:
    """A replay of a history.

    Attributes:
        event: Who did it, when and why; ``entry`` is the one that says so.
        head: Id of the entry that the branch was at before.
        replayed: Id of an entry of the old history -> id of the one that was made of it.
        dropped: What the new history does not have, oldest first.
    """

    event: Event
    head: str
    replayed: Mapping[str, str]
    dropped: tuple[Dropped, ...]


def rewrite_of(
    operation: str,
    old: Sequence[Entry],
    kept: Collection[str],
    replayed: Sequence[tuple[str, str | None]],
    *,
    time: str,
    author: str = "",
    message: str = "",
    reason: str = "",
) -> dict[str, Any]:
    """What an entry is to keep of a replay, as JSON types.

    Args:
        operation: ``rebase`` or ``reorder``.
        old: The old history, oldest first.
        kept: Ids of the entries of the new history that the replay did not make.
        replayed: (id of an old entry, id of the one that was made of it), in order; the last may have None, for the
            entry that will carry this.
        time: ISO 8601 UTC.
        author: Free text.
        message: Free text.
        reason: Free text.
    """
    stays = {*kept, *(before for before, _ in replayed)}
    by_id = {entry.id: entry for entry in old}
    out = graph.silenced(old)
    taught = {(r.fact, canonical(r.target_new)) for i in stays if i in by_id for r in by_id[i].requests}
    dropped = []
    for entry in old:
        if entry.adapter is None or entry.id in stays:
            continue
        by = by_id.get(out.get(entry.id, ""))
        facts = {
            str(position): request.to_dict()
            for position, request in enumerate(entry.requests)
            if (request.fact, canonical(request.target_new)) not in taught
        }
        event = None if by is None else _json(Event.of(by))
        dropped.append({"entry": _json(Event.of(entry)), "by": event, "facts": facts})
    # What an entry that is not in the new history kept of earlier replays would go with it.
    gone = [entry for entry in old if entry.rewrite and entry.id not in set(kept)]
    earlier = [{"entry": entry.id, **one} for entry in gone for one in _flat(entry.rewrite)]
    return {
        "operation": operation, "time": time, "author": author, "message": message, "reason": reason,
        "head": old[-1].id, "replayed": [list(pair) for pair in replayed], "dropped": dropped,
        **({"earlier": earlier} if earlier else {}),
    }  # fmt: skip


def _flat(rewrite: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A rewrite and those that it carries on, oldest first."""
    return [*map(dict, rewrite.get("earlier", ())), {k: v for k, v in rewrite.items() if k != "earlier"}]


def rewrites_in(history: Iterable[Entry]) -> list[Rewrite]:
    """What the entries of a history keep of replays, oldest entry first.

    Raises:
        InputError: an entry keeps something else; names it.
    """
    found = []
    for entry in history:
        if not entry.rewrite:
            continue
        try:
            found += [_read(one, entry.id) for one in _flat(entry.rewrite)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"entry {entry.id[:12]}: what it keeps of a rebase is malformed ({error})") from error
    return found


def _read(data: Mapping[str, Any], carrier: str) -> Rewrite:
    said = {name: data[name] for name in ("operation", "time", "author", "message", "reason")}
    event = _event({"entry": data.get("entry", carrier), **said})
    dropped = tuple(
        Dropped(
            _event(one["entry"]),
            None if one["by"] is None else _event(one["by"]),
            {int(position): Request.from_dict(request) for position, request in one["facts"].items()},
        )
        for one in data["dropped"]
    )
    replayed = {str(before): str(after or event.entry) for before, after in data["replayed"]}
    return Rewrite(event, str(data["head"]), replayed, dropped)


def _event(data: Mapping[str, Any]) -> Event:
    if not all(isinstance(value, str) for value in data.values()):
        raise TypeError("what is said of it is no text")
    return Event(**data)


def _json(event: Event) -> dict[str, str]:
    return {
        "entry": event.entry, "operation": event.operation, "time": event.time, "author": event.author,
        "message": event.message, "reason": event.reason,
    }  # fmt: skip
