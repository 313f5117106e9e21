"""A camouflaged export: its row space no longer singles out the edited subjects (`seqedit.shipping.mixing`).

What is shipped has neither requests nor keys beside its weights, and a card that names no fact. The ledger keeps the
update as it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ledger.reading import Reader
from seqedit.adapters.adapter import Adapter
from seqedit.editing.editor import Editor, Moments
from seqedit.errors import CheckFailed, InputError
from seqedit.forward.access import position_limit
from seqedit.keys.measure import measure_keys
from seqedit.methods import get_method, method_names
from seqedit.models.edited import EditedModel
from seqedit.shipping.card import Camouflage
from seqedit.shipping.decoys import DecoySettings, draw
from seqedit.shipping.export import Exported, check_base
from seqedit.shipping.mixing import Mixed, mix
from seqedit.text.lengths import check_requests
from seqedit.text.lookup import BARE, check_context_templates

TOLERANCE = 1e-4
"""How far what is written at an edited key may move, relative to the most that is written at one."""
UNMIXED = 0.1
"""Share of an update that its keys may leave unexplained before that is told."""


def camouflage(
    ledger: Reader,
    exported: Exported,
    edited: EditedModel,
    moments: Moments | None,
    subjects: Sequence[str],
    settings: DecoySettings,
) -> Exported:
    """Mix decoys into an export, and leave out what names its facts.

    Nothing changes at the keys that the facts were solved for, nor at those of their own prompts in what is shipped.

    Args:
        ledger: The ledger that it is of; left as it is.
        exported: What is to be shipped, not truncated.
        edited: The loaded base model; left unedited.
        moments: Its second moments, those that the updates were solved with.
        subjects: Names of decoys (`seqedit.shipping.decoys`).
        settings: How they are mixed in.

    Raises:
        InputError: an update without keys or without second moments, too few decoys, too many keys for a layer, or
            another base model.
        CheckFailed: rounding moved what is written at an edited key by more than `TOLERANCE`.
    """
    check_base(exported.exact.base_model, edited.base_model)
    shipped = exported.shipped
    parts = [ledger.adapter(entry) for entry in shipped.entries if entry.adapter is not None]
    _check_keys(parts)
    contexts = check_context_templates(parts[-1].provenance.get("context_templates") or ((BARE,),))
    facts = [(part, place) for part in parts for place in range(len(part.requests))]
    decoys = draw([part.requests[place] for part, place in facts], subjects, settings)
    check_requests(edited.tokenizer, decoys, position_limit(edited.model), contexts)

    anatomy = edited.parts
    numbers = {anatomy.projections[layer].name: layer for layer in anatomy.projections.layers}
    layers = sorted(numbers[name] for name in exported.exact.deltas)
    factors = Editor(edited, moments).factorizations(layers)
    state, mixed = exported.exact, dict[str, Mixed]()
    try:
        # From layer to layer, because what a layer writes at a decoy moves the decoy's keys in the layers above, as it
        # does with the facts' own.
        for layer in layers:
            projection = anatomy.projections[layer]
            edited.apply([state])
            around = measure_keys(edited.model, anatomy, edited.tokenizer, decoys, contexts, [layer])[layer]
            own = measure_keys(edited.model, anatomy, edited.tokenizer, shipped.requests, ((BARE,),), [layer])[layer]
            here = [i for i, (part, _) in enumerate(facts) if projection.name in part.deltas]
            keys = torch.stack([facts[i][0].keys[projection.name][facts[i][1]] for i in here])
            by_fact = around.unflatten(0, (len(facts), settings.per_fact))[here]
            # The metric that the update was solved in.
            shrinkage = float(facts[here[0]][0].method.get("shrinkage") or 0.0)
            metric = factors.cholesky(projection, weight=1.0, shrinkage=shrinkage)
            made = mix(state.deltas[projection.name], keys, own, by_fact, metric.factor, settings.length)
            mixed[projection.name] = made
            state = replace(state, deltas={**state.deltas, projection.name: made.delta})
    finally:
        edited.write({})
    change = max(one.change for one in mixed.values())
    if not change <= TOLERANCE:
        raise CheckFailed(
            f"camouflage would move what is written at an edited key by {change:.1e} of the most that is written at "
            f"one, more than {TOLERANCE:.0e}; use a lower strength"
        )
    told = Camouflage(
        change,
        growth={name: one.growth for name, one in sorted(mixed.items())},
        unmixed={name: one.unmixed for name, one in sorted(mixed.items())},
    )
    adapter = replace(
        state, requests=(), method={"name": "export", "camouflaged": True}, keys={},
        target_values=None, residuals={}, provenance={"camouflaged": True},
    )  # fmt: skip
    return Exported(adapter, exported.exact, replace(shipped, camouflage=told))


def warning_of(camouflage: Camouflage) -> str | None:
    """What is to be told of a camouflage that left much as it was; None where it left little."""
    name, share = max(camouflage.unmixed.items(), key=lambda item: item[1])
    if share <= UNMIXED:
        return None
    return (
        f"{100 * share:.0f} % of the update of '{name}' is not what its keys explain and stays as it was; camouflage "
        "with the second moments that the edits were made with, and audit what comes out"
    )


def _check_keys(parts: Sequence[Adapter]) -> None:
    for part in parts:
        # A trained update keeps keys too, for others to protect, but is no solution at them.
        solved = part.method.get("name") not in method_names() or get_method(str(part.method["name"])).precondition
        for name in part.deltas:
            if solved is None or name not in part.keys or len(part.keys[name]) != len(part.requests):
                raise InputError(
                    f"an adapter of method '{part.method.get('name')}' ({part.digest[:12]}) holds no keys that "
                    f"'{name}' was solved for at; only updates that were solved for at keys can be camouflaged"
                )
