"""What the ledger holds of a state, asked for by state: outcomes of tasks, the scores of each of its batches.

Kinds of scores differ in what they belong to. Outcomes, drift and the scores of each batch belong to the state alone;
averages of "the new batch", prompts and gates to the state and the batch that led to it; changes against the state
before also to that one. A copy of scores (`scores_to_copy`) keeps what is still true at its new place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ledger import Entry, Ledger
from ledger.queries.states import state_id
from seqedit.scoring.kinds import (
    KIND_ANSWERS,
    KIND_DIAGNOSIS,
    KIND_DRIFT,
    KIND_FIXED,
    KIND_FORGETTING,
    KIND_GATES,
    KIND_LEARNT,
    KIND_OUTCOMES,
    KIND_RECORDS,
    KIND_SCORES,
    KIND_TASKS,
    KIND_TIMINGS,
)

OF_STATE = frozenset({KIND_OUTCOMES, KIND_DRIFT, KIND_FORGETTING, KIND_TASKS, KIND_FIXED})
"""Kinds that say something of the state as a whole (tasks: but for their changes against the state before)."""
OF_BATCH = frozenset({KIND_SCORES, KIND_RECORDS, KIND_ANSWERS, KIND_GATES, KIND_TIMINGS, KIND_DIAGNOSIS, KIND_LEARNT})
"""Kinds that say something of the batch that led to the state, besides."""


def batch_scores(ledger: Ledger, history: Sequence[Entry]) -> list[dict[str, dict[str, Any]]]:
    """For the state of every entry of a history: entry id -> scores of its batch there, as far as it was scored.

    The ledger names batches by entries. An entry that a rebase took over brings the same adapter under another id,
    so it is by the adapter that a batch is found. Ledgers of earlier versions are read alike.

    Args:
        ledger: The ledger.
        history: Entries along first parents, oldest first.
    """
    digests = ledger.adapter_digests()
    found = ledger.states_scores([entry.id for entry in history], KIND_FORGETTING)
    bringing: dict[str, list[str]] = defaultdict(list)  # an adapter may come back after it was reverted
    rows: list[dict[str, dict[str, Any]]] = []
    for entry in history:
        if entry.adapter is not None:
            bringing[entry.adapter].append(entry.id)
        row: dict[str, dict[str, Any]] = {}
        active: set[str] | None = None
        for named, scores in found[entry.id].items():
            made = bringing.get(digests.get(named) or "", [])
            if len(made) > 1:
                active = set(ledger.active_ids(entry.id)) if active is None else active
                made = [one for one in made if one in active]
            if made:
                row.setdefault(made[0], scores)
        rows.append(row)
    return rows


def scores_to_copy(ledger: Ledger, old: Entry, branch: str) -> Callable[[Entry], dict[str, dict[str, Any]]]:
    """Scores of an entry as far as they hold for its successor on a branch, which brings the same adapter.

    Args:
        ledger: The ledger.
        old: The entry that is taken over.
        branch: The branch that the new entry will extend.

    Returns:
        What gives them for the new entry: nothing where that leads to another state.
    """
    scores, states, digests = ledger.scores(old.id), ledger.state_ids(), ledger.adapter_digests()
    before = ledger.active(branch)
    fingerprint = ledger.base_model.fingerprint
    here = [str(e.adapter) for e in before]
    same_before = states[old.parents[0]] == state_id(fingerprint, here)
    same = states[old.id] == state_id(fingerprint, [*here, str(old.adapter)])

    def copied(new: Entry) -> dict[str, dict[str, Any]]:
        if not same:
            timings = scores.get(KIND_TIMINGS, {})
            return {KIND_TIMINGS: {"edit": timings["edit"]}} if "edit" in timings else {}
        names = {str(e.adapter): e.id for e in (*before, new)}
        found = {kind: dict(values) for kind, values in scores.items() if kind in OF_STATE | OF_BATCH}
        rows: dict[str, Any] = {}
        for entry, values in found.pop(KIND_FORGETTING, {}).items():
            rows.setdefault(names.get(digests.get(entry) or "", entry), values)
        if rows:
            found[KIND_FORGETTING] = rows
        if not same_before and KIND_TASKS in found:
            found[KIND_TASKS] = {name: _without_previous(row) for name, row in found[KIND_TASKS].items()}
        return found

    return copied


def _without_previous(row: Mapping[str, Any]) -> dict[str, Any]:
    """A task's row without its changes against the state before."""
    return {name: value for name, value in row.items() if "previous_" not in name}
