"""Which entries lead to the same state, so that what is measured of a state is found from every one of them.

A state is the base model with its active adapters in composing order, whatever history led to it: after an edit and
its revert it is the state before, and an entry that a rebase takes over may lead to the state it led to in the old
history. Scores are recorded beside an entry, but they are measurements of its state. So whoever asks for them asks by
state, and whoever copies them compares states first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ledger.database.rows import EntryNode
from ledger.history import graph
from seqedit.support.digests import json_digest


def state_id(base_fingerprint: str, adapters: Iterable[str]) -> str:
    """Id of a state: a digest chained over the base model and its active adapters.

    Args:
        base_fingerprint: Fingerprint of the unedited model.
        adapters: Digests of the active adapters, in composing order.
    """
    state = json_digest(["state", base_fingerprint])
    for adapter in adapters:
        state = _extended(state, adapter)
    return state


def state_ids(base_fingerprint: str, nodes: dict[str, EntryNode]) -> dict[str, str]:
    """Entry id -> id of the state it leads to, of all entries.

    An edit extends its parent's state, so only the other operations need their whole history.

    Args:
        base_fingerprint: Fingerprint of the unedited model.
        nodes: All entries by id, parents before children (`ledger.database.rows.load_nodes`).
    """
    found: dict[str, str] = {}
    for node in nodes.values():
        if node.operation == "edit" and node.adapter is not None and node.parents[0] in found:
            found[node.id] = _extended(found[node.parents[0]], node.adapter)
        else:
            active = graph.active(graph.first_parent_history(nodes, node.id))
            found[node.id] = state_id(base_fingerprint, [str(n.adapter) for n in active])
    return found


def same_states(base_fingerprint: str, nodes: dict[str, EntryNode], entries: Iterable[str]) -> dict[str, list[str]]:
    """Of some entries, the entries that lead to the same state: itself first, then the others, newest first."""
    states = state_ids(base_fingerprint, nodes)
    leading: dict[str, list[str]] = defaultdict(list)
    for entry in reversed(nodes):
        leading[states[entry]].append(entry)
    return {entry: [entry, *(e for e in leading[states[entry]] if e != entry)] for entry in entries}


def _extended(state: str, adapter: str) -> str:
    return json_digest([state, adapter])
