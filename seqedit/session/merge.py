"""Operations on a history that compute: swap an entry for another method's, merge entries into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ledger import Entry
from ledger.ledger import Ledger
from seqedit.editing.recorded import completed
from seqedit.editing.settings import Given, MethodChoice
from seqedit.errors import InputError
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.session.entries import before, chosen_for, diagnosis_scores, inherited
from seqedit.session.merging import How, Part, check_how, check_parts, merge_adapters, place_of

if TYPE_CHECKING:
    from seqedit.adapters.adapter import Adapter
    from seqedit.session.session import Session


def parts_of(ledger: Ledger, revs: Sequence[str], state: str = "HEAD") -> list[tuple[Entry, Part]]:
    """The entries of a merge in composing order, those of other branches last, with what of them is in force.

    Raises:
        InputError: an entry that is named twice, or adds no adapter.
    """
    entries = [ledger.entry(rev) for rev in revs]
    for position, entry in enumerate(entries):
        if entry.id in {e.id for e in entries[:position]}:
            raise InputError(f"entry {entry.id[:12]} is named twice")
    for entry in entries:
        if entry.adapter is None:
            raise InputError(f"entry {entry.id[:12]} ({entry.operation}) adds no adapter: nothing to merge")
    state = ledger.resolve(state)
    order = {e.id: position for position, e in enumerate(ledger.active(state))}
    past = {e.id for e in ledger.log(state)}
    for entry in entries:
        if entry.id in past and entry.id not in order:
            raise InputError(f"entry {entry.id[:12]} is not active in HEAD's state: nothing to merge; see log")
    live = ledger.live_requests(state)
    entries.sort(key=lambda e: order.get(e.id, len(order)))
    return [
        (e, Part(e.id, ledger.adapter(e), live.get(e.id, tuple(range(len(e.requests))))))  # foreign: whole
        for e in entries
    ]


def solved_by(
    found: Sequence[tuple[Entry, Part]], how: str, choice: MethodChoice
) -> tuple[str | None, EditConfig | Given | None]:
    """Method and settings of a merge by ``solve``; None and None where nothing was chosen: they are the entries'.

    Args:
        found: The entries (`parts_of`); the first's method and settings are what a choice changes. With another method
            some may wait for the model (`seqedit.session.entries.chosen_for`).
        how: How they are merged.
        choice: What was chosen.

    Raises:
        InputError: something was chosen for another way, which computes nothing; or a setting does not fit.
    """
    check_how(how)
    if not choice.given:
        return None, None
    if how != "solve":
        raise InputError(f"a method and its settings are for merging by 'solve'; '{how}' works on the stored deltas")
    return chosen_for(found[0][0], choice)


def merge(
    session: Session | None,
    ledger: Ledger,
    revs: Sequence[str],
    how: How,
    *,
    method: str | None = None,
    config: EditConfig | None = None,
    density: float = 0.5,
    seed: int = 0,
    message: str | None = None,
    author: str = "",
    when: str | None = None,
    reason: str = "",
    noted: Mapping[str, Any] | None = None,
) -> Entry:
    """Merge entries into one, in the place of the last of them; entries of other branches are brought in.

    Args:
        session: Needed for ``solve``, which computes; the others work on the stored deltas.
        ledger: The ledger.
        revs: At least two entries.
        how: ``sum``, ``ties``, ``dare`` (`seqedit.session.merging.merge_adapters`) or ``solve`` (`solve_jointly`).
        method: Closed form of ``solve``; by default the one that all entries were made with.
        config: Its settings; given together with ``method``.
        density: As for `merge_adapters`.
        seed: As for `merge_adapters`.
        message: Free text.
        author: Free text.
        when: ISO 8601 UTC; now by default.
        reason: Why; kept in the entry.
        noted: What the provenance of ``solve``'s adapter is to say besides of where the settings came from.

    Raises:
        InputError: see `parts_of` and `merge_adapters`.
        RequestError: two entries contradict each other; names the fact.
        Conflict: another writer extended the branch meanwhile; with a session, `BranchMoved`.
    """
    if session is None:
        branch, head = ledger.position()
    else:
        session.check_unmoved()
        branch, head, revs = session.branch, session.tip, [session.named(rev) for rev in revs]
    found = parts_of(ledger, revs, head)
    parts = [part for _, part in found]
    check_parts(parts)
    if how == "solve":
        if session is None:
            raise InputError("merging by 'solve' needs the model")
        adapter = solve_jointly(session, found, method, config)
        adapter = replace(adapter, provenance={**adapter.provenance, **(noted or {})})
    else:
        adapter = merge_adapters(parts, how, density=density, seed=seed)
    active = {e.id for e in ledger.active(head)}
    text = f"merge {', '.join(e.id[:8] for e, _ in found)} by {how}: {len(adapter.requests)} facts"

    def append(branch: str, head: str) -> Entry:
        return ledger.append(
            adapter, message=text if message is None else message, author=author, time=when, parent=head,
            branch=branch, operation="merge",
            targets=[e.id for e, _ in found if e.id in active],
            others=[e.id for e, _ in found if e.id not in active],
            scores=diagnosis_scores(adapter) if how == "solve" else None, reason=reason,
        )  # fmt: skip

    if session is None:
        return append(branch, head)
    made = session.extend(append)
    session.learnt()
    return made


def solve_jointly(
    session: Session,
    found: Sequence[tuple[Entry, Part]],
    method: str | None = None,
    config: EditConfig | None = None,
) -> Adapter:
    """The one batch that several batches would have been: all their requests with the target values they have.

    Solved is the closed form on the state of the active entries before the last of them, without any of them, for the
    stored target values: keys and residuals are measured there, layer after layer, as for a fresh batch. Where
    the entries were single-layer batches computed on that very state, keys and target values are those stored
    with them, and the solution is that of editing all their requests as one batch.

    Raises:
        InputError: entries without target values (trained ones), of different methods, or with target values for
            different places.
    """
    method, config = check_solvable(found, method, config)
    ledger = session.ledger
    active = [e.id for e in ledger.active(session.tip)]
    targets = [e for e, _ in found if e.id in active]
    base = before(ledger, targets[-1], targets, session.tip) if targets else ledger.active(session.tip)
    import torch

    from seqedit.adapters.adapter import Adapter

    values = torch.cat([p.adapter.target_values[list(p.live)] for _, p in found if p.adapter.target_values is not None])
    first = found[0][1].adapter
    adapter = session.compute_on(
        base, [r for _, part in found for r in part.requests], method, config,
        context_templates=first.provenance.get("context_templates"), seed=first.provenance.get("seed") or 0,
        target_values=values,
    )  # fmt: skip
    settings = {
        "name": "merge", "how": "solve", "entries": [e.id for e, _ in found], "layers": list(config.layers),
        "solved_by": dict(adapter.method),
    }  # fmt: skip
    merged = {**inherited(first, method, config), "adapters": [part.adapter.digest for _, part in found]}
    return Adapter(
        deltas=adapter.deltas, requests=adapter.requests, method=settings, base_model=adapter.base_model,
        keys=adapter.keys, target_values=adapter.target_values, fan_in_fan_out=adapter.fan_in_fan_out,
        provenance={**adapter.provenance, **merged}, as_parameters=adapter.as_parameters,
        residuals=adapter.residuals,
    )  # fmt: skip


def check_solvable(
    found: Sequence[tuple[Entry, Part]], method: str | None = None, config: EditConfig | None = None
) -> tuple[str, EditConfig]:
    """The method and settings that entries are solved jointly by.

    Raises:
        InputError: as `solve_jointly`.
    """
    for entry, part in found:
        if part.adapter.target_values is None or not get_method_of(entry, method).needs_second_moments:
            raise InputError(
                f"entry {entry.id[:12]} ({entry.method.get('name')}) has no target values that were solved for; "
                "merge it by sum, or edit its facts again"
            )
    if method is None:
        method, config = _common(found)
    assert config is not None
    wanted = place_of({"name": method, **config.to_dict()})
    for entry, part in found:
        if place_of(_inner(part.adapter.method)) != wanted:
            raise InputError(
                f"entry {entry.id[:12]} has target values for the {_place(part.adapter)}, not for the {wanted[0]} of "
                f"layer {wanted[1]}"
            )
    return method, config


def get_method_of(entry: Entry, method: str | None) -> Any:
    """The registered method that an entry was made with; of a merge of deltas, the one given instead."""
    name = str(_inner(entry.method).get("name"))
    return get_method(method if name == "merge" and method is not None else name)


def _common(found: Sequence[tuple[Entry, Part]]) -> tuple[str, ClosedFormConfig]:
    """The method and settings that all entries share; ROME's joint form is EMMET's equality constraint."""
    methods = [completed(_inner(part.adapter.method)) for _, part in found]
    for (entry, _), method in zip(found, methods, strict=True):
        if method != methods[0]:
            raise InputError(
                f"entry {entry.id[:12]} was made by {method.get('name')} with other settings than "
                f"{found[0][0].id[:12]} ({methods[0].get('name')}); say how to solve with --method and --set"
            )
    data = dict(methods[0])
    name = str(data.pop("name"))
    if name == "rome":
        name, data = "emmet", {**data, "a": 0.0}
    config = get_method(name).config.from_dict(data)
    assert isinstance(config, ClosedFormConfig)
    return name, config


def _inner(method: Any) -> dict[str, Any]:
    return dict(method.get("solved_by") or method)


def _place(adapter: Adapter) -> str:
    kind, layer = place_of(_inner(adapter.method))
    return f"{kind} of layer {layer}"
