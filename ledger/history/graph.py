"""Algebra of histories: which adapters are active in a state, and which facts are in force. No I/O.

Every operation beyond "add this adapter" names earlier entries as its *targets* and takes them out of force. An
entry is *in force* unless a later entry that is itself in force targets it. This one rule, read from the newest
entry back, covers reverting an edit (edit out of force), reverting that revert (revert out of force, hence the edit
back at its own place) and operations that replace entries by another adapter (swap, merge).

An adapter that replaces others composes at the *place* of the last of them, not at the end: a swapped batch must not
supersede what was taught after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeVar

from seqedit.errors import InputError


class Node(Protocol):
    """What the algebra needs of an entry; `ledger.history.entries.Entry` and database rows have it."""

    @property
    def id(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def parents(self) -> tuple[str, ...]: ...
    @property
    def adapter(self) -> str | None: ...
    @property
    def targets(self) -> tuple[str, ...]: ...


N = TypeVar("N", bound=Node)


@dataclass(frozen=True)
class Operation:
    """Shape of an operation's entries.

    Attributes:
        parents: How many parents it may have.
        adapter: Whether it adds an adapter.
        targets: How many earlier entries it takes out of force.
    """

    parents: Collection[int]
    adapter: bool
    targets: Collection[int]

    def check(self, name: str, parents: Sequence[str], adapter: str | None, targets: Sequence[str]) -> None:
        """Raise `InputError` where an entry has not the shape of its operation."""
        if len(parents) not in self.parents:
            raise InputError(f"operation '{name}' cannot have {len(parents)} parents")
        if (adapter is not None) != self.adapter:
            raise InputError(f"operation '{name}' {'needs an' if self.adapter else 'cannot have an'} adapter")
        if len(targets) not in self.targets:
            raise InputError(f"operation '{name}' cannot have {len(targets)} target entries")


MAX_MERGED = 10_000
"""How many entries one merge may name."""

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "root": Operation(parents=(0,), adapter=False, targets=(0,)),
        "edit": Operation(parents=(1,), adapter=True, targets=(0,)),
        "revert": Operation(parents=(1,), adapter=False, targets=(1,)),
        # The same requests by another method or setting, in place.
        "swap": Operation(parents=(1,), adapter=True, targets=(1,)),
        # Several entries as one: active ones are targets, those of other branches are further parents.
        "merge": Operation(parents=range(1, MAX_MERGED + 1), adapter=True, targets=range(MAX_MERGED + 1)),
        # What a rebase dropped, where it made no entry anew that could say so; the state is its parent's.
        "rebase": Operation(parents=(1,), adapter=False, targets=(0,)),
    }
)

REPLACING = frozenset({"swap", "merge"})
"""Operations that put an adapter in the place of the adapters of their targets."""


def first_parent_history(nodes: Mapping[str, N], head: str) -> list[N]:
    """The entries from the root to ``head`` along first parents, oldest first.

    Args:
        nodes: At least these entries, by id.
        head: Id of the newest.

    Raises:
        InputError: a parent is missing, or the chain runs in a circle.
    """
    chain: list[N] = []
    seen: set[str] = set()
    at: str | None = head
    while at is not None:
        if at in seen:
            raise InputError(f"the history of {head[:12]} runs in a circle through {at[:12]}; run verify")
        node = nodes.get(at)
        if node is None:
            raise InputError(f"entry {at[:12]} in the history of {head[:12]} is missing; run verify")
        seen.add(at)
        chain.append(node)
        at = node.parents[0] if node.parents else None
    return chain[::-1]


def silenced(history: Iterable[Node]) -> dict[str, str]:
    """Entry out of force -> the entry in force that took it out.

    What a replaced entry had replaced stays out, and is its replacer's: only a revert brings targets back.

    Args:
        history: Oldest first.
    """
    by: dict[str, str] = {}
    replaced: set[str] = set()
    for node in reversed(list(history)):
        if node.id in by and node.id not in replaced:
            continue  # reverted: its own targets are back in force
        for target in node.targets:
            by.setdefault(target, by.get(node.id, node.id))
            if node.operation in REPLACING:
                replaced.add(target)
    return by


def in_force(history: Iterable[Node]) -> set[str]:
    """Ids of the entries that no later entry in force takes out of it.

    Args:
        history: Oldest first.
    """
    nodes = list(history)
    out = silenced(nodes)
    return {node.id for node in nodes if node.id not in out}


def active(history: Sequence[N]) -> list[N]:
    """The entries whose adapters make up the state, in the order in which they compose.

    Args:
        history: Oldest first, as `first_parent_history` gives it.
    """
    force = in_force(history)
    place: dict[str, int] = {}
    for position, node in enumerate(history):
        replaced = [place[target] for target in node.targets if target in place]
        place[node.id] = max(replaced) if node.adapter is not None and replaced else position
    found = [node for node in history if node.adapter is not None and node.id in force]
    return sorted(found, key=lambda node: place[node.id])


def check_next(history: Sequence[Node], entry: Node) -> None:
    """Refuse an entry that would not mean anything after ``history``.

    Raises:
        InputError: says why: a target that is the root, is not in this history, is not in force, or whose revert
            changes nothing; or an adapter that is active already.
    """
    by_id = {node.id: node for node in history}
    out = silenced(history)
    for target in entry.targets:
        node = by_id.get(target)
        if node is None:
            raise InputError(f"entry {target[:12]} is not in the history of {history[-1].id[:12]}; see log")
        if node.operation == "root":
            raise InputError(f"entry {target[:12]} is the root, the unedited model: nothing to {entry.operation}")
        if target in out:
            by = by_id[out[target]]
            raise InputError(
                f"entry {target[:12]} is not in force: {by.id[:12]} ({by.operation}) took it out; revert "
                f"{by.id[:12]} to bring it back"
            )
    before = [node.id for node in active(history)]
    if len(set(entry.targets)) != len(entry.targets):
        raise InputError(f"an entry can be named once only to {entry.operation}")
    if entry.operation in REPLACING:
        for target in entry.targets:
            if target not in before:
                raise InputError(
                    f"entry {target[:12]} ({by_id[target].operation}) adds no adapter, so there is nothing to "
                    f"{entry.operation}"
                )
    if entry.operation == "merge" and len(entry.targets) + len(entry.parents) - 1 < 2:
        raise InputError("a merge needs at least two entries")
    if entry.operation == "revert" and [n.id for n in active((*history, entry))] == before:
        raise InputError(f"reverting {entry.targets[0][:12]} would change nothing: its effect is overridden; see log")
    if entry.adapter is not None:
        for identifier in before:
            # A target is replaced, so it may well bring the same adapter.
            if by_id[identifier].adapter == entry.adapter and identifier not in entry.targets:
                raise InputError(
                    f"adapter {entry.adapter[:12]} is already active as entry {identifier[:12]}; applied twice its "
                    "delta would count double"
                )


def check_history(history: Sequence[Node]) -> list[tuple[str, str]]:
    """Entries that break the rules of their operation at their place: [(entry id, why)]."""
    problems: list[tuple[str, str]] = []
    earlier: set[str] = set()
    for position, node in enumerate(history):
        if (node.operation == "root") != (position == 0):
            problems.append((node.id, "the first entry of a history, and only it, must be a root"))
        for target in node.targets:
            if target not in earlier:
                problems.append((node.id, f"its target {target[:12]} is not earlier in its history"))
        earlier.add(node.id)
    return problems


def check_histories(nodes: Mapping[str, N]) -> Iterator[tuple[str, str]]:
    """As `check_history`, for the histories of all entries, each of which begins as its first parent's: once for each.

    Args:
        nodes: Entries by id, with all their parents.
    """
    children: dict[str | None, list[N]] = {}
    for node in nodes.values():
        children.setdefault(node.parents[0] if node.parents else None, []).append(node)
    earlier: set[str] = set()  # the entries on the way to the one that is looked at
    waiting: list[tuple[N, bool]] = [(node, False) for node in reversed(children.get(None, []))]
    while waiting:
        node, done = waiting.pop()
        if done:
            earlier.remove(node.id)
            continue
        if (node.operation == "root") != (not node.parents):
            yield node.id, "the first entry of a history, and only it, must be a root"
        for target in node.targets:
            if target not in earlier:
                yield node.id, f"its target {target[:12]} is not earlier in its history"
        earlier.add(node.id)
        waiting.append((node, True))
        waiting += [(child, False) for child in reversed(children.get(node.id, []))]


def live_facts(batches: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> dict[str, tuple[int, ...]]:
    """Which requests are still in force: a later request for the same fact supersedes the earlier one.

    Args:
        batches: (entry id, the fact (subject, relation) of each of its requests) of the active entries, in order.

    Returns:
        Entry id -> positions of its requests that nothing later supersedes; an entry without any maps to ().
    """
    last: dict[tuple[str, str], tuple[str, int]] = {}
    for entry, facts in batches:
        for position, fact in enumerate(facts):
            last[fact] = (entry, position)
    return {entry: tuple(p for p, fact in enumerate(facts) if last[fact] == (entry, p)) for entry, facts in batches}
