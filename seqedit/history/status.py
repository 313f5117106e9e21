"""Where a ledger stands: what is in force, how full the layers are, what was scored last, and what waits.

Answered from the database and the headers of a few adapters; no model is needed, and torch is not imported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evals.scores.probes import MAIN_COLUMNS
from ledger.errors import failures
from ledger.history.entries import Entry
from seqedit.adapters.header import WEIGHTS, key_dimensions
from seqedit.errors import CheckFailed
from seqedit.scoring.kinds import KIND_FAILURE, KIND_GATES, KIND_SCORES, KIND_TASKS

if TYPE_CHECKING:
    from ledger.ledger import Ledger

SCORES = ("ES", "PS", "NS", "S", "EM", "PM", "NM", "GE", *MAIN_COLUMNS)
_REBASE = "rebase/"
_LOOKED_AT = 20
"""How many of the newest unscored entries are asked why."""


@dataclass(frozen=True)
class Load:
    """How full a module is.

    Attributes:
        module: Its name.
        edits: Facts in force that were written into it.
        key_dimension: Length of its keys.
        load: Edits per key dimension.
    """

    module: str
    edits: int
    key_dimension: int
    load: float


@dataclass(frozen=True)
class Scored:
    """The newest entry whose state was scored.

    Attributes:
        entry: Its id.
        message: Its message.
        since: How many entries followed it.
        scores: Averages over its facts.
        tasks: Task -> metric -> value.
    """

    entry: str
    message: str
    since: int
    scores: Mapping[str, float]
    tasks: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Pending:
    """Something that was begun, or made, and waits to be finished.

    Attributes:
        kind: ``failed``: the state of an entry could not be scored; ``rebase``: it was interrupted; ``unscored``: the
            newest entries of a branch whose earlier ones are scored, as an interrupted run leaves them; ``unmerged``: a
            branch has entries that this one has not.
        what: The branch, or the entry.
        count: How many entries.
        advice: What to do, as a sentence.
    """

    kind: str
    what: str
    count: int
    advice: str


@dataclass(frozen=True)
class Status:
    """Where a ledger stands.

    Attributes:
        branch: The branch that HEAD names.
        head: Id of the entry that it is at.
        model: Name of the base model.
        tags: Tags that are at it.
        entries: Entries of its history, the root not counted.
        entries_in_force: Those whose adapters make up the state.
        facts_in_force: Facts that the state answers by edits.
        facts_superseded: Facts of entries in force that later ones supersede.
        load: Modules with their load.
        scored: The newest scored entry, or None.
        unscored: Ids of the entries whose states have no scores, newest first.
        gates: What the gates of the newest entry with gates said: gate, value, bound, tripped; empty where none had.
        gates_of: Id of that entry, or None.
        pending: What waits.
    """

    branch: str
    head: str
    model: str
    tags: tuple[str, ...]
    entries: int
    entries_in_force: int
    facts_in_force: int
    facts_superseded: int
    load: tuple[Load, ...]
    scored: Scored | None
    unscored: tuple[str, ...]
    gates: tuple[Mapping[str, Any], ...]
    gates_of: str | None
    pending: tuple[Pending, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def status_of(ledger: Ledger, branch: str | None = None) -> Status:
    """Where a ledger stands.

    Args:
        ledger: The ledger.
        branch: The branch that is looked at; by default HEAD's.

    Raises:
        InputError: there is no such branch.
        CheckFailed: an adapter's weights cannot be read.
    """
    name, head = ledger.position() if branch is None else (branch, ledger.branch_entry(branch))
    history = [entry for entry in ledger.log(head) if entry.operation != "rebase"]
    made, by_id = history[:-1], {entry.id: entry for entry in history}
    live = ledger.live_requests(head)
    active = [by_id[identifier] for identifier in live]
    scored, unscored = _scored(ledger, made)
    gates = next(((e.id, found) for e in made if (found := _gates(ledger, e.id))), None)
    return Status(
        branch=name,
        head=head,
        model=ledger.base_model.name,
        tags=tuple(tag.name for tag in ledger.tags() if tag.entry == head),
        entries=len(made),
        entries_in_force=len(active),
        facts_in_force=sum(map(len, live.values())),
        facts_superseded=sum(len(e.requests) - len(live[e.id]) for e in active),
        load=_load(ledger, active, live),
        scored=scored,
        unscored=unscored,
        gates=() if gates is None else tuple(gates[1].values()),
        gates_of=None if gates is None else gates[0],
        pending=(*_failed(ledger, unscored), *_left(name, scored, unscored, made), *_branches(ledger, name, head)),
    )


def _gates(ledger: Ledger, entry: str) -> dict[str, Any]:
    return ledger.scores(entry, KIND_GATES).get(KIND_GATES, {})


def _load(ledger: Ledger, active: Sequence[Entry], live: Mapping[str, Sequence[int]]) -> tuple[Load, ...]:
    """Load of every module that an entry in force changes; those of one method on the same layers change the same."""
    edits: dict[str, int] = defaultdict(int)
    sizes: dict[str, int] = {}
    known: dict[tuple[object, ...], dict[str, int]] = {}
    for entry in active:
        layers = entry.method.get("layers")
        key = (entry.method.get("name"), *layers) if isinstance(layers, list) and layers else None
        found = known.get(key) if key is not None else None
        if found is None:
            found = _dimensions(ledger, str(entry.adapter))
            if key is not None:
                known[key] = found
        for module, size in found.items():
            edits[module] += len(live[entry.id])
            sizes[module] = size
    return tuple(
        Load(name, edits[name], sizes[name], edits[name] / sizes[name]) for name in sorted(sizes, key=_natural)
    )


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _dimensions(ledger: Ledger, digest: str) -> dict[str, int]:
    with failures(f"object store {ledger.store.url}"):
        try:
            with ledger.store.open(f"{ledger.store.path(digest)}/{WEIGHTS}") as stream:
                return key_dimensions(stream)
        except FileNotFoundError as error:
            raise CheckFailed(f"object {digest[:12]}: file {WEIGHTS} is missing; run verify") from error


def _scored(ledger: Ledger, made: Sequence[Entry]) -> tuple[Scored | None, tuple[str, ...]]:
    found = ledger.states_scores([entry.id for entry in made], KIND_SCORES)
    newest, unscored = None, []
    for since, entry in enumerate(made):
        values = found[entry.id]
        if not values:
            unscored.append(entry.id)
        elif newest is None:
            tasks = ledger.state_scores(entry.id, KIND_TASKS)
            newest = Scored(
                entry.id,
                entry.message,
                since,
                _numbers(values, SCORES),
                {n: _numbers(task) for n, task in tasks.items()},
            )
    return newest, tuple(unscored)


def _numbers(values: Mapping[str, Any], names: Sequence[str] | None = None) -> dict[str, float]:
    wanted = values if names is None else [name for name in names if name in values]
    return {n: values[n] for n in wanted if isinstance(values[n], int | float) and not isinstance(values[n], bool)}


def _failed(ledger: Ledger, unscored: Sequence[str]) -> list[Pending]:
    found = []
    for entry in unscored[:_LOOKED_AT]:
        reason = ledger.scores(entry, KIND_FAILURE).get(KIND_FAILURE, {}).get("reason")
        if reason is not None:
            found.append(Pending("failed", entry, 1, f"the state after {entry[:12]} could not be scored ({reason}): "
                         f"`seqedit revert {entry[:12]}`"))  # fmt: skip
    return found


def _left(branch: str, scored: Scored | None, unscored: Sequence[str], made: Sequence[Entry]) -> list[Pending]:
    """The newest entries that nobody scored, where those before them are: what an interrupted run leaves."""
    if scored is None or not scored.since or {e.id for e in made[: scored.since]} - set(unscored):
        return []
    count = scored.since
    text = f"the last {count} of {branch} are not scored: `seqedit eval --keep`, or "
    text += "`seqedit run CONFIG --resume` where a run was interrupted"
    return [Pending("unscored", branch, count, text)]


def _branches(ledger: Ledger, current: str, head: str) -> list[Pending]:
    here = {entry.id for entry in ledger.log(head)}
    adapters = ledger.adapter_digests()
    mine = {adapters[identifier] for identifier in ledger.active_ids(head)}
    found = []
    for name, tip in ledger.branches().items():
        if name == current:
            continue
        ahead = [i for i in ledger.active_ids(tip) if i not in here and adapters[i] not in mine]
        if name.startswith(_REBASE):
            of = name.removeprefix(_REBASE)
            found.append(Pending("rebase", of, len(ahead), f"a rebase of {of} was interrupted: `seqedit rebase "
                         "--resume` (or `reorder`, as it began), or `--abort`"))  # fmt: skip
        elif ahead:
            found.append(Pending("unmerged", name, len(ahead), f"{name} has {len(ahead)} entries in force that "
                         f"{current} has not: `seqedit merge` or `seqedit cherry-pick`"))  # fmt: skip
    return found
