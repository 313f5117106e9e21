"""Records that cannot be used: which, and why, told all at once, so that nobody mends a file record by record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqedit.errors import RequestError
from seqedit.facts.checks import short

_MOST_PLACES, _MOST_REASONS = 8, 5
"""How many records of one reason, and how many reasons, a message names; counts are of all."""

GO_ON = "--skip-unusable (skip_unusable: true in a run, skip_unusable=True in Python)"


@dataclass(frozen=True)
class Unusable:
    """A record that cannot be used.

    Attributes:
        number: Its number in the source, from 1.
        where: Its place, as messages have it: the source, the line or record.
        message: What is wrong with it.
        kind: The same without the record's own values, by which like faults are told together.
        case_id: Its identifier, where it has one.
    """

    number: int
    where: str
    message: str
    kind: str
    case_id: str | int | None = None

    @property
    def name(self) -> str:
        """Number and identifier."""
        return f"{self.number}" if self.case_id is None else f"{self.number} (id {short(self.case_id, 40)})"

    def to_dict(self) -> dict[str, Any]:
        """Number and identifier as JSON types."""
        return {"record": self.number} | ({} if self.case_id is None else {"case_id": self.case_id})


@dataclass(frozen=True)
class Skipped:
    """The records of a source that were left out because they cannot be used.

    Attributes:
        source: What they were read from.
        of: How many records were read of it.
        records: Those that were left out.
    """

    source: str
    of: int
    records: tuple[Unusable, ...]

    @property
    def reasons(self) -> dict[str, list[Unusable]]:
        """Reason -> the records, the most frequent reason first."""
        return by_reason(self.records)

    def __str__(self) -> str:
        """One line."""
        return f"{self.source}: {len(self.records)} of {self.of} records left out as unusable: {told(self.records)}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        reasons = {reason: [item.to_dict() for item in items] for reason, items in self.reasons.items()}
        return {"source": self.source, "skipped": len(self.records), "of": self.of, "reasons": reasons}


def by_reason(records: Iterable[Unusable]) -> dict[str, list[Unusable]]:
    """Records by what is wrong with them, the most frequent reason first."""
    found: dict[str, list[Unusable]] = {}
    for record in records:
        found.setdefault(record.kind, []).append(record)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def told(records: Sequence[Unusable]) -> str:
    """Reasons with their records, short enough for one line."""
    found = by_reason(records)
    parts = [f"{reason} ({_places(items)})" for reason, items in list(found.items())[:_MOST_REASONS]]
    left = sum(len(items) for items in list(found.values())[_MOST_REASONS:])
    return "; ".join([*parts, *([f"{left} more for {len(found) - _MOST_REASONS} other reasons"] if left else [])])


def _places(items: Sequence[Unusable]) -> str:
    names = ", ".join(item.name for item in items[:_MOST_PLACES])
    more = f" and {len(items) - _MOST_PLACES} more" if len(items) > _MOST_PLACES else ""
    return f"record{'' if len(items) == 1 else 's'} {names}{more}"


def refusal(
    source: str, records: Sequence[Unusable], of: int, instead: Sequence[str] = (), *, offer: bool = True
) -> RequestError:
    """What is raised where unusable records are not to be left out, or are all there is.

    Args:
        source: What they were read from.
        records: Those that cannot be used.
        of: How many records were read.
        instead: What else would do, such as another convention.
        offer: Whether whoever asks can leave records out.
    """
    first = records[0]
    hints = [*instead] if offer else []
    if offer and len(records) < of:
        hints.append(f"{GO_ON} goes on with the other {of - len(records)}")
    end = f"; {'; '.join(hints)}" if hints else ""
    if len(records) == 1:
        return RequestError(f"{first.where}: {first.message}{end}")
    if len(records) == of:
        none = f"{source}: none of its {of} records can be used"
        return RequestError(f"{none}: {told(records)}; the first: {first.message}{end}")
    return RequestError(f"{source}: {len(records)} of {of} records cannot be used: {told(records)}{end}")


def unusable(number: int, where: str, row: Any, error: Exception) -> Unusable:
    """A record and what was raised for it; ``where`` is taken off the message's front."""
    message = str(error).removeprefix(f"{where}: ")
    case = row.get("case_id", row.get("id")) if isinstance(row, Mapping) else None
    known = case if isinstance(case, (str, int)) and not isinstance(case, bool) else None
    return Unusable(number, where, message, getattr(error, "kind", message), known)
