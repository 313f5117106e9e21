"""Planning: keys of the requests measured once, and all that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqedit.editing.compute import protects_earlier
from seqedit.editing.editor import Editor
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.forward.access import position_limit
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.planning.interference import LayerKeys, Metric, cosines, largest_over_layers, measure, written_shares
from seqedit.planning.order import Batches, LaterCosines, Order, clustered, in_file_order, later, summary
from seqedit.planning.pairs import InForceFact, pairs_of
from seqedit.planning.plan import Endangered, Near, Plan, PlannedFact
from seqedit.solver.evolving_null_space import keys_in_force
from seqedit.solver.preconditioners import Preconditioner, protect
from seqedit.text.lengths import check_requests
from seqedit.text.lookup import check_context_templates

PREDICTOR: Metric = "solver"
"""Which cosine foretells forgetting: docs/guide/plan.md has the calibration."""
DANGER = 0.3
"""From this cosine on a fact in force is called endangered."""


@dataclass(frozen=True, eq=False)
class InForce:
    """The state that a plan begins at.

    Attributes:
        facts: Facts in force, those of the oldest entry first.
        keys: Module name -> (m, d_in) their keys as stored; a row of NaN where an entry did not edit the module.
        protected: Module name -> (N, d_in) keys of all active edits, superseded ones included.
        count: Edits in force, for the load.
    """

    facts: tuple[InForceFact, ...] = ()
    keys: Mapping[str, Tensor] = field(default_factory=dict)
    protected: Mapping[str, Tensor] = field(default_factory=dict)
    count: int = 0


NOTHING = InForce()


def make_plan(
    editor: Editor,
    requests: Sequence[Request],
    method: str,
    config: EditConfig,
    *,
    in_force: InForce = NOTHING,
    batch_size: int | None = None,
    order: Order = "file",
    seed: int = 0,
    metric: Metric = PREDICTOR,
    danger: float = DANGER,
) -> Plan:
    """Plan requests on the state that the editor's model is in; nothing is written, no target value is optimised.

    Args:
        editor: Model, templates and second moments.
        requests: The requests, contradictions and all.
        method: Name of the method.
        config: Its settings.
        in_force: What the state holds.
        batch_size: Requests of a batch; None for all in one.
        order: Order of the batches.
        seed: Of how the clustered order breaks ties.
        metric: Of the cosines that count; a method that is no closed form has plain ones only.
        danger: From this cosine on a fact in force is endangered.

    Raises:
        InputError: no requests, one that the model cannot take, or a batch size or threshold that cannot be.
    """
    size = len(requests) if batch_size is None else batch_size
    if not requests:
        raise InputError("there are no requests to plan")
    if size < 1:
        raise InputError(f"batch_size must be at least 1, got {size}")
    if not 0 < danger <= 1:
        raise InputError(f"the cosine from which a fact is endangered must be above 0 and at most 1, got {danger:g}")
    measured = _measure(editor, requests, config)
    old = _old_keys(editor, in_force, config)
    inner = {layer.projection.name: editor.preconditioner(method, config, layer.projection) for layer in measured}
    closed = all(one is not None for one in inner.values())
    used: Metric = metric if closed else "raw"
    start = {name: _with_earlier(one, in_force, name, config) for name, one in inner.items() if one is not None}
    # Raw and in the plan's metric, of the new keys among themselves and to those in force.
    news, olds = {layer.projection.name: layer.keys for layer in measured}, old
    raw = [largest_over_layers({n: cosines(k, other[n]) for n, k in news.items()}) for other in (news, olds)]
    near = raw if used == "raw" else [
        largest_over_layers({n: cosines(k, other[n], start[n]) for n, k in news.items()}) for other in (news, olds)
    ]  # fmt: skip
    within, across = near
    together = not isinstance(config, ClosedFormConfig) or config.solved_together
    found: dict[Order, Batches] = {
        "file": in_file_order(len(requests), size),
        "clustered": clustered(requests, within, size, together=together, seed=seed),
    }
    orders: dict[Order, LaterCosines] = {}
    for name, batches in found.items():
        orders[name] = summary(within, batches if together else [[i] for batch in batches for i in batch])
    batches = found[order]
    solved = batches if together else [[i] for batch in batches for i in batch]
    written, alone = _shares(measured, inner, in_force, config, solved) if closed else ({}, {})
    replaced = {request.fact for request in requests}
    kept = [j for j, fact in enumerate(in_force.facts) if fact.request.fact not in replaced]
    facts = _facts(requests, in_force.facts, batches, solved, (raw[0], within), (raw[1], across), kept, written, alone)
    return Plan(
        method, config.to_dict(), used, danger, order, tuple(map(tuple, batches)), facts,
        _endangered(in_force.facts, raw[1], across, kept, danger),
        pairs_of(requests, raw[0], in_force.facts, raw[1]),
        {
            layer.projection.name: (in_force.count / d, (in_force.count + len(requests)) / d)
            for layer in measured for d in [layer.keys.shape[1]]
        },
        orders,
    )  # fmt: skip


def clustered_batches(
    editor: Editor, requests: Sequence[Request], method: str, config: EditConfig, size: int, seed: int = 0
) -> Batches:
    """Batches of near keys, on the state that the editor's model is in, with nothing in force."""
    return [list(batch) for batch in make_plan(
        editor, requests, method, config, batch_size=size, order="clustered", seed=seed
    ).batches]  # fmt: skip


def _measure(editor: Editor, requests: Sequence[Request], config: EditConfig) -> list[LayerKeys]:
    edited, contexts = editor.edited, check_context_templates(editor.context_templates)
    check_requests(edited.tokenizer, requests, position_limit(edited.model), contexts)
    following = isinstance(config, ClosedFormConfig) and config.protect_following
    return measure(edited.model, edited.parts, edited.tokenizer, requests, contexts, config.layers, following=following)


def _old_keys(editor: Editor, in_force: InForce, config: EditConfig) -> dict[str, Tensor]:
    """Module name -> (m, d_in) keys of the facts in force: those stored, and measured now where an entry has none."""
    projections = editor.edited.parts.projections_of(config.layers)
    found = {
        p.name: in_force.keys[p.name].to(p.weight.device, torch.float64) if p.name in in_force.keys
        else torch.full((len(in_force.facts), p.matrix().shape[1]), torch.nan, dtype=torch.float64)
        for p in projections
    }  # fmt: skip
    missing = sorted({i for keys in found.values() for i in keys.isnan().any(1).nonzero().flatten().tolist()})
    if missing:
        measured = _measure(editor, [in_force.facts[i].request for i in missing], config)
        for layer in measured:
            keys = found[layer.projection.name] = found[layer.projection.name].to(layer.keys.device)
            absent = keys[missing].isnan().any(1)
            keys[torch.tensor(missing, device=keys.device)[absent]] = layer.keys[absent]
    return found


def _with_earlier(inner: Preconditioner, in_force: InForce, name: str, config: EditConfig) -> Preconditioner:
    keys = in_force.protected.get(name) if protects_earlier(config) else None
    return inner if keys is None or not len(keys) else keys_in_force(inner).protect(keys.double())


def _shares(
    measured: Sequence[LayerKeys],
    inner: Mapping[str, Preconditioner | None],
    in_force: InForce,
    config: EditConfig,
    batches: Batches,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Module name -> (n,) share written, in the batch and alone; each batch with the keys before it protected."""
    assert isinstance(config, ClosedFormConfig)
    written, alone = {}, {}
    for layer in measured:
        name, keys = layer.projection.name, layer.keys
        base = inner[name]
        assert base is not None
        held, before = keys_in_force(base), in_force.protected.get(name, torch.empty(0, keys.shape[1])).to(keys)
        got, lone = torch.zeros(2, len(keys), dtype=torch.float64)
        for batch in batches:
            precondition = held.protect(before) if protects_earlier(config) and len(before) else base
            if layer.following is not None:
                precondition = protect(precondition, torch.cat([layer.following[i] for i in batch]).T)
            some = keys[batch]
            shares = written_shares(some, precondition, config.relaxation(len(batch)))
            got[batch] = shares[0].cpu()
            lone[batch] = shares[1].cpu()
            before = torch.cat([before, some])
        written[name], alone[name] = got, lone
    return written, alone


def _facts(
    requests: Sequence[Request],
    in_force: Sequence[InForceFact],
    batches: Batches,
    solved: Batches,
    within: tuple[Tensor, Tensor],
    across: tuple[Tensor, Tensor],
    kept: Sequence[int],
    written: Mapping[str, Tensor],
    alone: Mapping[str, Tensor],
) -> tuple[PlannedFact, ...]:
    """The facts; matrices are pairs of raw cosines and those in the plan's metric."""
    number = {i: n for n, batch in enumerate(batches, 1) for i in batch}
    mates = {i: [j for j in batch if j != i] for batch in solved for i in batch}
    _, after = later(within[1], solved)

    def inside(i: int, j: int | None) -> Near | None:
        return None if j is None else Near(float(within[1][i, j]), float(within[0][i, j]), requests[j], position=j)

    facts = []
    for i, request in enumerate(requests):
        mate = mates[i][int(within[1][i, mates[i]].argmax())] if mates[i] else None
        old = kept[int(across[1][i, list(kept)].argmax())] if kept else None
        near = None if old is None else Near(
            float(across[1][i, old]), float(across[0][i, old]), in_force[old].request, entry=in_force[old].entry
        )  # fmt: skip
        shares = [{name: float(share[i]) for name, share in of.items()} for of in (written, alone)]
        facts.append(PlannedFact(i, request, number[i], near, inside(i, mate), inside(i, after[i]), *shares))
    return tuple(facts)


def _endangered(
    in_force: Sequence[InForceFact], raw: Tensor, across: Tensor, kept: Sequence[int], danger: float
) -> tuple[Endangered, ...]:
    found = []
    for j in kept:
        by = int(across[:, j].argmax())
        if float(across[by, j]) >= danger:
            found.append(
                Endangered(in_force[j].entry, in_force[j].request, float(across[by, j]), float(raw[by, j]), by)
            )
    return tuple(sorted(found, key=lambda one: -one.cosine))
