"""A plan in a few lines, beside what else is said of a batch before it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqedit.planning.plan import Near, Plan, PlannedFact, rounded

SHOWN = 8
"""Endangered facts and pairs that the lines name; the JSON has all."""


def essentials(plan: Plan) -> dict[str, Any]:
    """The largest cosines, the shares written, and what is endangered or said twice, as JSON types."""
    return {
        "metric": plan.metric, "danger": plan.danger, "settings": dict(plan.settings),
        "largest": {name: _largest(plan, near) for name, near in _NEAR.items()},
        "written": _shares(plan, lambda fact: fact.written), "written_alone": _shares(plan, lambda f: f.written_alone),
        "endangered": [one.to_dict() for one in plan.endangered], "pairs": [pair.to_dict() for pair in plan.pairs],
        "load": {name: {"before": rounded(a), "after": rounded(b)} for name, (a, b) in plan.load.items()},
    }  # fmt: skip


def essential_lines(plan: Plan) -> list[str]:
    """The same as text."""
    lines = []
    for name, words in (("in_force", "to a key in force"), ("in_batch", "within the batch")):
        fact = _first(plan, _NEAR[name])
        near = None if fact is None else _NEAR[name](fact)
        if fact is None or near is None:
            lines.append(f"largest cosine {words}: there is none")
            continue
        other = f"entry {near.entry[:12]}" if near.entry is not None else f"fact {near.position}"
        lines.append(f"largest cosine {words}: {near.cosine:.2f} (fact {fact.position}, {other})")
    shares = _shares(plan, lambda fact: fact.written)
    if shares is not None:
        lines.append(
            f"predicted share written: {100 * shares['mean']:.0f} % of the residuals in the mean, "
            f"{100 * shares['smallest']:.0f} % of fact {shares['position']}'s"
        )
    for what, found in (("endangered facts", list(plan.endangered)), ("pairs", list(plan.pairs))):
        lines += map(str, found[:SHOWN])
        lines += [f"... {len(found) - SHOWN} more {what}"] if len(found) > SHOWN else []
    if not plan.endangered:
        lines.append(f"no fact in force is endangered (cosine of {plan.danger:g} or more)")
    return lines


_NEAR: dict[str, Callable[[PlannedFact], Near | None]] = {
    "in_force": lambda fact: fact.in_force,
    "in_batch": lambda fact: fact.in_batch,
}


def _first(plan: Plan, near: Callable[[PlannedFact], Near | None]) -> PlannedFact | None:
    """The fact with the largest cosine of a kind."""
    known = [(found.cosine, fact) for fact in plan.facts if (found := near(fact)) is not None]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _largest(plan: Plan, near: Callable[[PlannedFact], Near | None]) -> dict[str, Any] | None:
    fact = _first(plan, near)
    found = None if fact is None else near(fact)
    return None if fact is None or found is None else {"fact": fact.position, "to": found.to_dict()}


def _shares(plan: Plan, of: Callable[[PlannedFact], Any]) -> dict[str, Any] | None:
    """Of the facts' shares, each the smallest of the layers: the mean, and the smallest and whose it is."""
    known = [(min(of(fact).values()), fact.position) for fact in plan.facts if of(fact)]
    if not known:
        return None
    smallest, position = min(known)
    mean = sum(share for share, _ in known) / len(known)
    return {"mean": rounded(mean), "smallest": rounded(smallest), "position": position}
