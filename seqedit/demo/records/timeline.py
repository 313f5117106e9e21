"""A history of the demo world after training: dated batches of changes, some of them changing a fact again."""

from __future__ import annotations

from typing import Any

from seqedit.demo.records.counterfact import record, reference_texts
from seqedit.demo.world import Fact, World

MONTHS = 24
PER_BATCH = 12
_FIRST_YEAR = 2032
_REPEATED = 3
"""Changes per batch, from the third batch on, that change an earlier change again."""

# Only what really changes: nobody's mother tongue does, and no town moves to another river.
_EVENTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("People change employers", ("P108",)),
    ("People move house", ("P551",)),
    ("Companies move their headquarters", ("P159",)),
    ("Products get new makers", ("P176",)),
    ("New professions and hobbies", ("P106", "P1303")),
    ("Companies enter other fields and products new materials", ("P452", "P186")),
    ("Towns find new trades and borders shift", ("P1056", "P17")),
    ("A month of many changes", ("P108", "P551", "P159", "P176")),
)


def timeline(world: World) -> list[dict[str, Any]]:
    """Monthly batches of updates.

    Args:
        world: the world.

    Returns:
        Batches in order of time: ``{"date", "title", "records"}``. ``date`` is ISO 8601; records have CounterFact's
        layout and case ids of their own. When a fact changes again, ``target_true`` is the object of its previous
        change. No subject that changes in the timeline serves as a neighbour.
    """
    rng = world.rng("timeline")
    plan: list[list[tuple[Fact, str, str]]] = []
    now: dict[int, str] = {}
    for month in range(MONTHS):
        relations = _EVENTS[month % len(_EVENTS)][1]
        again = rng.sample(sorted(now), _REPEATED) if month >= 2 else []
        fresh = [fact.case_id for fact in world.facts if fact.relation.id in relations and fact.case_id not in now]
        batch = []
        for case_id in again + rng.sample(fresh, PER_BATCH - len(again)):
            fact = world.facts[case_id]
            true = now.get(case_id, fact.object)
            new = rng.choice([value for value in fact.relation.objects if value != true])
            batch.append((fact, true, new))
            now[case_id] = new
        plan.append(batch)

    texts = reference_texts(world)
    changed = {world.facts[case_id].subject for case_id in now}
    out: list[dict[str, Any]] = []
    for month, batch in enumerate(plan):
        made = []
        for at, (fact, true, new) in enumerate(batch):
            case_id = len(world.facts) + PER_BATCH * month + at
            one = record(world, fact, rng, new, case_id=case_id, target_true=true, avoided=changed)
            made.append({**one, "reference_texts": texts[fact.relation.object_id(new)]})
        out.append(
            {
                "date": f"{_FIRST_YEAR + month // 12}-{month % 12 + 1:02d}-01",
                "title": _EVENTS[month % len(_EVENTS)][0],
                "records": made,
            }
        )
    return out
