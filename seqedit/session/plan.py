"""Planning on a session's state: what a file of facts will meet there, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqedit.editing.compute import protects_earlier, protects_superseded
from seqedit.editing.editor import keys_in_force, keys_of
from seqedit.facts.requests import Request
from seqedit.methods.config import EditConfig
from seqedit.planning.order import Order
from seqedit.planning.pairs import InForceFact
from seqedit.planning.plan import Plan
from seqedit.planning.planner import DANGER, InForce, make_plan
from seqedit.session.session import Session


def state_in_force(session: Session, config: EditConfig) -> InForce:
    """Facts and keys of the session's own state, at the layers that the settings edit."""
    ledger, live = session.ledger, session.ledger.live_requests(session.tip)
    names = {p.name: p.matrix().shape[1] for p in session.edited.parts.projections_of(config.layers)}
    facts: list[InForceFact] = []
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    adapters = []
    for entry, adapter in zip(ledger.active(session.tip), ledger.adapters(session.tip), strict=True):
        adapters.append(adapter)
        positions = list(live.get(entry.id, ()))
        facts += [InForceFact(entry.id, entry.requests[position]) for position in positions]
        for name, d_in in names.items():
            keys = adapter.keys.get(name)
            stored = keys is not None and keys.shape == (len(adapter.requests), d_in)
            rows[name].append(keys[positions] if stored else torch.full((len(positions), d_in), torch.nan))  # type: ignore[index]
    keys_by_name = {name: torch.cat(found) for name, found in rows.items() if found}
    protected: dict[str, Tensor] = {}
    if protects_earlier(config):
        protected = keys_of(adapters) if protects_superseded(config) else keys_in_force(adapters)
    return InForce(tuple(facts), keys_by_name, protected, sum(map(len, live.values())))


def plan_edits(
    session: Session,
    requests: Sequence[Request],
    method: str,
    config: EditConfig,
    *,
    batch_size: int | None = None,
    order: Order = "file",
    danger: float = DANGER,
) -> Plan:
    """Plan requests on the session's own state; model and ledger stay as they are.

    Args:
        session: Model and ledger.
        requests: The requests.
        method: Name of the method.
        config: Its settings.
        batch_size: Requests of a batch; None for all in one.
        order: Order of the batches.
        danger: From this cosine on a fact in force is endangered.

    Raises:
        InputError: a request, setting or size that cannot be.
    """
    session.edited.parts.check_layers(config.layers)
    session.restore()
    return make_plan(
        session.editor, requests, method, config, in_force=state_in_force(session, config), batch_size=batch_size,
        order=order, seed=session.seed, danger=danger,
    )  # fmt: skip
