"""What planning found, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seqedit.facts.reading.unusable import Skipped
from seqedit.facts.requests import Request
from seqedit.planning.interference import Metric
from seqedit.planning.order import LaterCosines, Order
from seqedit.planning.pairs import Pair


@dataclass(frozen=True)
class Near:
    """The nearest key to a fact's.

    Attributes:
        cosine: Their cosine in the plan's metric.
        raw: Their plain cosine.
        request: Whose key it is.
        position: Its place in the file; None where it is in force.
        entry: Id of the entry that brought it; None where it is in the file.
    """

    cosine: float
    raw: float
    request: Request
    position: int | None = None
    entry: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types, rounded to six digits."""
        found = {"cosine": rounded(self.cosine), "raw": rounded(self.raw), "subject": self.request.subject}
        found |= {"prompt": self.request.prompt, "target_new": self.request.target_new}
        return found | ({"position": self.position} if self.entry is None else {"entry": self.entry})


@dataclass(frozen=True)
class PlannedFact:
    """A request that is to be written.

    Attributes:
        position: Its place in the file, from 0.
        request: The request.
        batch: Number of its batch, from 1.
        in_force: The nearest key in force that the file does not supersede.
        in_batch: The nearest key of its own batch.
        later: The nearest key of a later batch: what may make it forgotten.
        written: Module name -> share of its residual that the batch will write; empty where nothing is solved.
        written_alone: Module name -> the same, were it alone in its batch.
    """

    position: int
    request: Request
    batch: int
    in_force: Near | None
    in_batch: Near | None
    later: Near | None
    written: Mapping[str, float]
    written_alone: Mapping[str, float]

    @property
    def risk(self) -> float:
        """What facts are sorted by: the largest cosine to a key that it endangers, or that endangers it."""
        return max((near.cosine for near in (self.in_force, self.later) if near is not None), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, rounded to six digits."""
        near = {"in_force": self.in_force, "in_batch": self.in_batch, "later": self.later}
        return {
            "position": self.position, **self.request.to_dict(), "batch": self.batch, "risk": rounded(self.risk),
            **{name: None if one is None else one.to_dict() for name, one in near.items()},
            "written": {name: rounded(share) for name, share in self.written.items()},
            "written_alone": {name: rounded(share) for name, share in self.written_alone.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class Endangered:
    """A fact in force with a new key near to its own.

    Attributes:
        entry: Id of the entry that brought it.
        request: The fact.
        cosine: Largest cosine to a new key, in the plan's metric.
        raw: Their plain cosine.
        by: Place in the file of the request with that key.
    """

    entry: str
    request: Request
    cosine: float
    raw: float
    by: int

    def to_dict(self) -> dict[str, Any]:
        """JSON types, rounded to six digits."""
        return {
            "entry": self.entry, **self.request.to_dict(), "cosine": rounded(self.cosine), "raw": rounded(self.raw),
            "by": self.by,
        }  # fmt: skip

    def __str__(self) -> str:
        fact = f"{self.request.text} -> {self.request.target_new}"
        return f"fact {self.by} endangers {fact} of entry {self.entry[:12]} (cosine {self.cosine:.2f})"


@dataclass(frozen=True)
class Plan:
    """What is known of a file of requests before anything is written.

    Attributes:
        method: Name of the method.
        settings: Its settings, as JSON types.
        metric: Of the cosines that facts are sorted by and batches made with: ``solver`` (C^-1) or ``raw``.
        danger: From this cosine on a fact in force is called endangered.
        order: The order of the batches.
        batches: Places in the file, batch by batch.
        facts: In the file's order.
        endangered: Facts in force, the nearest first.
        pairs: Requests that contradict, repeat or paraphrase each other or facts in force, or share a key.
        load: Module name -> edits in force per key dimension, before and after.
        orders: Cosines to later keys in the file's order and clustered.
        skipped: What of the file was left out as unusable; None for nothing.
    """

    method: str
    settings: Mapping[str, Any]
    metric: Metric
    danger: float
    order: Order
    batches: tuple[tuple[int, ...], ...]
    facts: tuple[PlannedFact, ...]
    endangered: tuple[Endangered, ...]
    pairs: tuple[Pair, ...]
    load: Mapping[str, tuple[float, float]]
    orders: Mapping[Order, LaterCosines]
    skipped: Skipped | None = None

    @property
    def by_risk(self) -> list[PlannedFact]:
        """The facts, those at risk first."""
        return sorted(self.facts, key=lambda fact: (-fact.risk, fact.position))

    @property
    def problems(self) -> list[str]:
        """What speaks against writing the file as planned: contradictions within it, and facts in force in danger."""
        clash = [str(pair) for pair in self.pairs if pair.kind == "contradicts"]
        return [*clash, *map(str, self.endangered)]

    def to_dict(self) -> dict[str, Any]:
        """JSON types; facts at risk first."""
        return {
            "method": self.method, "settings": dict(self.settings), "metric": self.metric, "danger": self.danger,
            "order": self.order, "batches": [list(batch) for batch in self.batches],
            "facts": [fact.to_dict() for fact in self.by_risk],
            "endangered": [one.to_dict() for one in self.endangered], "pairs": [pair.to_dict() for pair in self.pairs],
            "load": {name: {"before": rounded(a), "after": rounded(b)} for name, (a, b) in self.load.items()},
            "orders": {name: later.to_dict() for name, later in self.orders.items()},
            **({} if self.skipped is None else {"skipped": self.skipped.to_dict()}),
        }  # fmt: skip

    def lines(self, limit: int | None = None) -> list[str]:
        """The plan as text, one line a fact.

        Args:
            limit: Show only so many facts, endangered facts and pairs each; None for all.
        """
        lines = [f"{len(self.facts)} facts in {len(self.batches)} batches ({self.order} order) by {self.method}"]
        lines += [] if self.skipped is None else [str(self.skipped)]
        for name, (before, after) in self.load.items():
            lines.append(f"load of {name}: {before:.3g} before, {after:.3g} after")
        for order, found in self.orders.items():
            lines.append(f"largest cosine to later keys, {order} order: {found.largest:.3f}, mean {found.mean:.3f}")
        lines.append(f"{'fact':>5}{'batch':>6}{'in force':>9}{'in batch':>9}{'later':>7}{'written':>8}{'alone':>7}")
        for fact in self.by_risk[:limit]:
            cells = [_cosine(near, width) for near, width in ((fact.in_force, 9), (fact.in_batch, 9), (fact.later, 7))]
            shares = [_share(share, width) for share, width in ((fact.written, 8), (fact.written_alone, 7))]
            text = f"  {fact.request.text} -> {fact.request.target_new}"
            lines.append(f"{fact.position:>5}{fact.batch:>6}{''.join(cells + shares)}{text}")
        lines += _more(len(self.facts), limit, "facts")
        lines += map(str, self.endangered[:limit])
        lines += _more(len(self.endangered), limit, "endangered facts")
        lines += [str(pair) for pair in self.pairs[:limit]]
        return lines + _more(len(self.pairs), limit, "pairs")


def rounded(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")


def _cosine(near: Near | None, width: int) -> str:
    return ("-" if near is None else f"{near.cosine:.2f}").rjust(width)


def _share(of: Mapping[str, float], width: int) -> str:
    return ("-" if not of else f"{100 * min(of.values()):.0f} %").rjust(width)


def _more(count: int, limit: int | None, what: str) -> list[str]:
    return [f"... {count - limit} more {what}"] if limit is not None and count > limit else []
