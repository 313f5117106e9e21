"""What the operations of a session ask of an entry: its method, its place, its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ledger import Entry
from ledger.ledger import Ledger
from seqedit.editing.recorded import completed
from seqedit.editing.settings import Given, MethodChoice
from seqedit.errors import InputError
from seqedit.methods import get_method
from seqedit.methods.config import EditConfig
from seqedit.scoring.kinds import KIND_DIAGNOSIS

if TYPE_CHECKING:
    from seqedit.adapters.adapter import Adapter


def diagnosis_scores(adapter: Adapter) -> dict[str, Any]:
    """What is recorded beside the entry of an adapter that was just computed: its diagnosis, where it has one."""
    found = adapter.provenance.get("diagnosis")
    return {} if found is None else {KIND_DIAGNOSIS: found}


def method_of(entry: Entry) -> tuple[str, EditConfig]:
    """Method and settings that an entry was made with.

    Raises:
        InputError: it was not made by a method of this version (e.g. by merging deltas).
    """
    data = dict(entry.method)
    inner = data.get("solved_by")
    if isinstance(inner, dict):
        data = dict(inner)
    data = completed(data)
    name = str(data.pop("name", ""))
    if name == "merge":
        raise InputError(f"entry {entry.id[:12]} is a merge by '{data.get('how')}', which no method can compute again")
    return name, get_method(name).config.from_dict(data)


def settings_for(old: Entry, choice: MethodChoice) -> tuple[str, EditConfig]:
    """The same as `chosen_for`, with the method's defaults where something waits for the model."""
    name, chosen = chosen_for(old, choice)
    return name, chosen.config() if isinstance(chosen, Given) else chosen


def chosen_for(old: Entry, choice: MethodChoice) -> tuple[str, EditConfig | Given]:
    """Method and settings to edit an entry's facts anew; as they were given where some wait for the model.

    Args:
        old: The entry.
        choice: What was chosen. Its single settings come on top of the entry's own where the method stays and neither
            preset nor file is given, so that nothing waits; another method takes the entry's layers where nothing else
            names any, and the rest is settled for the model (`seqedit.editing.rule.settle`).

    Raises:
        InputError: the entry's own settings are asked for and it has none, or a setting does not fit.
    """
    same = choice.method is None or choice.method == old.method.get("name")
    name, config = method_of(old) if same else (str(choice.method), None)
    below: Mapping[str, Any] = {}
    if choice.preset is None and choice.hparams is None:
        if config is not None:
            below = config.to_dict()
        elif old.method.get("layers"):
            below = {"layers": old.method["layers"]}
    return name, choice.settings_of(name, below)


def inherited(adapter: Adapter, method: str, config: EditConfig) -> dict[str, Any]:
    """What an adapter recorded of where its settings came from, as far as it is true of another's too.

    Args:
        adapter: The adapter whose facts are edited anew.
        method: Method of the new one.
        config: Its settings.
    """
    recorded, now = adapter.method.get("solved_by") or adapter.method, {"name": method, **config.to_dict()}
    if recorded.get("name") != method:
        return {}
    ruled = adapter.provenance.get("by_rule") or {}
    kept = {name: value for name, value in ruled.items() if now.get(name) == value}
    preset = adapter.provenance.get("preset") if completed(recorded) == now else None
    return {**({"by_rule": kept} if kept else {}), **({"preset": preset} if preset else {})}


def active_entry(ledger: Ledger, rev: str, verb: str, state: str = "HEAD") -> Entry:
    """The entry that a revision names, which must be part of a state.

    Raises:
        InputError: it is not; says what it is instead.
    """
    entry = ledger.entry(rev)
    if entry.id not in {e.id for e in ledger.active(state)}:
        what = "adds no adapter" if entry.adapter is None else "is not active in HEAD's state"
        raise InputError(f"entry {entry.id[:12]} ({entry.operation}) {what}: nothing to {verb}; see log")
    return entry


def before(ledger: Ledger, entry: Entry, without: Sequence[Entry] = (), state: str = "HEAD") -> list[Entry]:
    """The active entries of a state that compose before an active entry, without some of them."""
    active = ledger.active(state)
    place = [e.id for e in active].index(entry.id)
    left_out = {e.id for e in without}
    return [e for e in active[:place] if e.id not in left_out]


def _seed(ledger: Ledger, entry: Entry) -> int:
    return int(ledger.adapter(entry).provenance.get("seed") or 0)
