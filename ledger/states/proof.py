"""Proving snapshots: their sums are computed again from the adapters of the entries they were made for.

A snapshot is a cache that whoever writes the ledger can forge, file and record together. No signature covers it; what
it must be follows from signed entries, so verification computes that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from sqlalchemy import Connection, select
from torch import Tensor

from ledger.database import rows
from ledger.database.schema import Refs
from ledger.history import graph
from ledger.objects.manifest import Manifest
from ledger.objects.objects import SNAPSHOTS, ObjectStore
from ledger.problems import Code, Problem
from ledger.states.deltas import read_ahead
from ledger.states.snapshots import SUFFIX, Record, adapters_digest, keys, load_sums, records_of
from seqedit.adapters.composition import GROUP, Composition, HasDeltas
from seqedit.errors import InputError, SeqeditError

SEARCHED = 2_000
"""States that are tried for a snapshot whose record does not name its own, newest first."""
_CLOSE = 1e-10  # double precision sums in another order differ by about 1e-13 of their size


def prove_snapshots(
    connection: Connection,
    store: ObjectStore,
    nodes: Mapping[str, rows.EntryNode],
    manifests: Mapping[str, Manifest],
    load: Callable[[str], HasDeltas],
) -> Iterator[Problem]:
    """Snapshots whose sums are not those of the adapters, or of which nobody can say what they should be.

    Args:
        connection: An open transaction.
        store: The objects.
        nodes: All entries by id; their rows have been compared with their contents.
        manifests: Recorded manifests by digest; their objects have been checked.
        load: Loads an adapter whose files are not what was recorded.
    """
    records = records_of(connection)
    there = store.children(SNAPSHOTS) if records else {}
    records = {name: record for name, record in records.items() if there.get(name + SUFFIX) == ("file", record.size)}
    states = _states(connection, nodes, records)
    last: tuple[list[str], dict[str, Tensor]] = ([], {})
    for name, record in sorted(records.items(), key=lambda item: (len(states.get(item[0], ())), item[0])):
        where = f"objects/{SNAPSHOTS}/{name}{SUFFIX}"
        digests = states.get(name)
        if digests is None:
            detail = "nothing tells which state it is of, so it cannot be proven; it may be deleted"
            yield Problem(Code.DAMAGED_SNAPSHOT, where, detail)
            continue
        found = load_sums(store, name, record)
        if found is None or not set(digests) <= set(manifests):
            continue  # named already: not what was recorded, or objects are missing
        before = last if last[0] == digests[: len(last[0])] else ([], {})
        try:
            sums = _sums(store, digests, before, manifests, load)
        except (SeqeditError, OSError):
            continue  # the damaged object is named where objects are checked
        exact = name in keys(digests)[-1:] and all(device == "cpu" for device in record.devices.values())
        if not _same(found, sums, exact=exact):
            detail = "its sums are not those of the adapters it is named after: it was forged, or computed wrongly"
            yield Problem(Code.FORGED_SNAPSHOT, where, detail)
        last = (digests, sums)


def _states(
    connection: Connection, nodes: Mapping[str, rows.EntryNode], records: Mapping[str, Record]
) -> dict[str, list[str]]:
    """Snapshot name -> the adapters it must be the sum of, where that is known."""
    found: dict[str, list[str]] = {}
    for name, record in records.items():
        digests = _active(nodes, record.entry)[: record.count] if record.entry and record.count else []
        if digests and len(digests) == record.count and adapters_digest(digests) == record.adapters:
            found[name] = digests
    left = set(records) - set(found)
    tips = [str(tip) for tip in connection.execute(select(Refs.entry).where(Refs.entry.is_not(None))).scalars()]
    newest = sorted(nodes, key=lambda identifier: -nodes[identifier].generation)[:SEARCHED] if left else []
    for identifier in dict.fromkeys([*tips, *newest]):
        if not left:
            break
        digests = _active(nodes, identifier)
        names = keys(digests)
        for position, name in enumerate(names, 1):
            if name in left:
                found[name] = digests[: position * GROUP]
                left.discard(name)
    return found


def _active(nodes: Mapping[str, rows.EntryNode], head: str | None) -> list[str]:
    try:
        history = graph.first_parent_history(nodes, head or "")
    except InputError:
        return []
    return [node.adapter for node in graph.active(history) if node.adapter is not None]


def _sums(
    store: ObjectStore,
    digests: Sequence[str],
    before: tuple[list[str], dict[str, Tensor]],
    manifests: Mapping[str, Manifest],
    load: Callable[[str], HasDeltas],
) -> dict[str, Tensor]:
    """The sums of some adapters, from the proven sums of their first ones on."""
    # Sums do not depend on the base, only their shapes do: one number stands for each weight.
    base = {name: torch.zeros(()).expand(total.shape) for name, total in before[1].items()}
    composition = Composition(base, len(before[0]), before[1])
    left = list(digests[len(before[0]) :])
    recorded = {digest: manifests[digest].files for digest in left}
    for adapter in read_ahead(store, left, recorded, load):
        for name, delta in adapter.deltas.items():
            base.setdefault(name, torch.zeros(()).expand(delta.shape))
        composition.add(adapter)
    return composition.snapshot()


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], *, exact: bool) -> bool:
    if one.keys() != other.keys():
        return False
    for name, tensor in one.items():
        if tensor.dtype != torch.float64 or tensor.shape != other[name].shape:
            return False
        if exact:
            if not torch.equal(tensor, other[name]):
                return False
        else:
            size = float(other[name].abs().max()) if tensor.numel() else 0.0
            if not bool(((tensor - other[name]).abs() <= _CLOSE * (1 + size)).all()):
                return False
    return True
