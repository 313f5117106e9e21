"""What of a run is in force at its end: its entries, its facts, and the step whose scores are those of that state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.report.charts import SCORES

Step = Mapping[str, Any]
_PAST = {"revert": "reverted", "swap": "swapped", "merge": "merged"}
_CARRIES = ("swap", "merge")
"""Operations whose own entry goes on with the facts of those that it takes out."""


def entry_states(steps: Sequence[Step]) -> dict[Any, str]:
    """Step number -> whether its entry is in force, and by what it was taken out of it."""
    by: dict[str, Step] = {}
    for step in steps:
        for target in step.get("targets") or ():
            by[str(target)] = step
    states = {}
    for step in steps:
        taken = by.get(str(step.get("entry")))
        operation = step.get("operation")
        facts = step.get("facts") or []
        gone = sum(1 for fact in facts if fact.get("in_force") is False)
        state = ""
        if taken is not None:
            state = f"{_PAST.get(str(taken.get('operation')), taken.get('operation'))} at step {taken.get('step')}"
        elif step.get("active") is True:
            part = f"in force, {gone} of {len(facts)} superseded" if gone else "in force"
            state = "superseded" if gone and gone == len(facts) else part
        elif step.get("active") is False and operation not in (None, "revert"):
            state = "not in force"
        states[step.get("step")] = state
    return states


def fact_states(steps: Sequence[Step]) -> list[list[str]]:
    """For every fact of every step what became of it: "" where it is in force, or nothing is known.

    A fact of a batch that was swapped or merged is in force where the entry that took its place holds it.
    """
    by = {str(target): step for step in steps for target in step.get("targets") or ()}
    held = [{_name(fact): fact.get("in_force") for fact in step.get("facts") or []} for step in steps]
    place = {str(step.get("entry")): index for index, step in enumerate(steps)}

    def carried(step: Step, name: tuple[str, ...]) -> Any:
        """Number of the later step that holds a fact of this one, through swaps and merges; None where none does."""
        seen: set[str] = set()
        while (taken := by.get(str(step.get("entry")))) is not None and taken.get("operation") in _CARRIES:
            entry = str(taken.get("entry"))
            if entry in seen:
                return None
            seen.add(entry)
            if held[place[entry]].get(name):
                return taken.get("step")
            step = taken
        return None

    found = []
    for step in steps:
        row = []
        for fact in step.get("facts") or []:
            state = ""
            if fact.get("in_force") is False:
                later, taken = carried(step, _name(fact)), by.get(str(step.get("entry")))
                if later is not None:
                    state = f"in force by step {later}"
                elif taken is not None and taken.get("operation") not in _CARRIES:
                    state = f"{_PAST.get(str(taken.get('operation')), 'taken out')} at step {taken.get('step')}"
                else:
                    state = "superseded" if step.get("active") is not False else "no longer in force"
            row.append(state)
        found.append(row)
    return found


def facts_in_force(steps: Sequence[Step]) -> int | None:
    """How many facts the state at the end holds; None where the summary does not tell.

    Counted where they are: a merged batch's facts at the merge, those of a branch that was merged in too.
    """
    total = 0
    for step in steps:
        count = step_facts_in_force(step)
        if count is None:
            return None
        total += count
    return total


def facts_edited(steps: Sequence[Step]) -> int:
    """How many requests a run brought; those that a swap or merge only takes over count once."""
    return sum(
        int(step.get("requests") or 0)
        for step in steps
        if step.get("operation") not in _CARRIES or not step.get("targets")
    )  # fmt: skip


def step_facts_in_force(step: Step) -> int | None:
    """How many facts of one entry are in force at the end; None where the summary does not tell."""
    facts = step.get("facts") or []
    if facts and all(isinstance(fact.get("in_force"), bool) for fact in facts):
        return sum(fact["in_force"] for fact in facts)
    if step.get("active") is False:
        return 0
    requests = step.get("requests")
    # An entry whose facts are not listed counts whole: nothing says that one of them is superseded.
    return int(requests or 0) if step.get("active") is True or not requests else None


def standing_step(steps: Sequence[Step]) -> tuple[Step | None, bool]:
    """The step whose scores the tiles show, and whether they are those of the state at the end.

    That is the newest scored step whose state was, entry for entry, that of the end: after a gate has reverted the
    last batch, the step before it. Where no such step was scored it is the newest scored one still in force.
    """
    states: list[tuple[Any, ...]] = []
    now: tuple[Any, ...] = ()
    for step in steps:
        targets = [str(target) for target in step.get("targets") or ()]
        own = str(step.get("entry"))
        operation = step.get("operation")
        if operation == "revert":
            now = tuple(entry for entry in now if entry not in targets)
        elif operation in _CARRIES and any(entry in targets for entry in now):
            last = max(index for index, entry in enumerate(now) if entry in targets)
            now = tuple(own if i == last else e for i, e in enumerate(now) if i == last or e not in targets)
        else:
            now = (*now, own)
        states.append(now)
    scored = [i for i, step in enumerate(steps) if any(step.get(metric) is not None for metric in SCORES)]
    for index in reversed(scored):
        if states[index] == states[-1]:
            return steps[index], True
    kept = [i for i in scored if steps[i].get("active") is not False] or scored
    if kept:
        return steps[kept[-1]], False
    return (steps[-1] if steps else None), True


def _name(fact: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(fact.get(key)) for key in ("subject", "prompt", "target_new"))
