"""An audit: how well the subjects of an update can be told from candidates by its weights alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evals.statistics.stratified import wilson
from seqedit.editing.editor import Editor
from seqedit.errors import InputError
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request
from seqedit.forward.access import position_limit
from seqedit.keys.measure import measure_keys
from seqedit.leakage.shares import row_factor, shares
from seqedit.leakage.update import Update
from seqedit.moments.second_moments import shrink
from seqedit.text.lengths import check_requests
from seqedit.text.lookup import check_context_templates


@dataclass(frozen=True)
class Suspect:
    """One candidate.

    Attributes:
        subject: Its name.
        share: Mean over the layers of the share of its key's squared length that lies in the update, 0 to 1.
        edited: Whether the update was made for it; None where no record says so.
    """

    subject: str
    share: float
    edited: bool | None


@dataclass(frozen=True)
class Separation:
    """How well shares tell the edited subjects from the others.

    Attributes:
        auc: Probability that an edited subject has the larger share of the two; 0.5 is chance.
        recall: Share of the n edited subjects among the n largest shares.
        interval: 95 % Wilson interval of the recall.
        chance: Recall of a guess: n of all.
    """

    auc: float
    recall: float
    interval: tuple[float, float]
    chance: float


@dataclass(frozen=True)
class LayerLeak:
    """One module of the update.

    Attributes:
        module: Its name.
        rank: Numerical rank of its delta.
        load: Rank per key dimension: the share that a random key has.
        separation: By this module alone; None without a record.
    """

    module: str
    rank: int
    load: float
    separation: Separation | None


@dataclass(frozen=True)
class Leak:
    """What an audit found.

    Attributes:
        suspects: All candidates, the likeliest first.
        separation: By all layers together; None where no record says what was edited.
        layers: Of each module.
        prompts: ``bare`` (the subject alone) or ``own`` (each candidate's own prompt).
        second_moments: Whether lengths were taken in the metric of C0^-1.
        before: The same of the update before it was camouflaged, where that was given.
    """

    suspects: tuple[Suspect, ...]
    separation: Separation | None
    layers: tuple[LayerLeak, ...]
    prompts: str
    second_moments: bool
    before: Leak | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    def lines(self, top: int = 10) -> list[str]:
        """For a reader."""
        known = [suspect for suspect in self.suspects if suspect.edited]
        lines = [f"{len(self.suspects)} candidates by their {self.prompts} prompts"]
        for layer in self.layers:
            told = f"  {_told(layer.separation)}" if layer.separation else ""
            lines.append(f"{layer.module}  rank {layer.rank}, a random key has {layer.load:.2f} in it{told}")
        if self.separation is not None:
            lines.append(
                f"all layers: {_told_with_interval(self.separation)}; a guess finds "
                f"{100 * self.separation.chance:.0f} % of the {len(known)}"
            )
        if self.before is not None and self.before.separation is not None:
            lines.append(f"before camouflage: {_told_with_interval(self.before.separation)}")
        marks = {True: "edited", False: "not edited", None: ""}
        for place, suspect in enumerate(self.suspects[:top], 1):
            lines.append(f"{place:>4}  {suspect.share:.3f}  {suspect.subject}  {marks[suspect.edited]}".rstrip())
        return lines


def audit_update(
    editor: Editor,
    update: Update,
    candidates: Sequence[Request],
    *,
    own_prompts: bool = False,
    before: Update | None = None,
) -> Leak:
    """Tell from the weights of an update which of some subjects it was made for (arXiv 2602.10134).

    Args:
        editor: The unedited model, its context templates, and its second moments; without any, C0 is the identity.
        update: The update. Where it has a record, its subjects are among the candidates and are what is looked for.
        candidates: One request a subject; their targets are not looked at.
        own_prompts: Measure keys at each request's own prompt, as somebody would who knows it; else the subject alone.
        before: The update before it was camouflaged, audited too; its record says what is looked for.

    Raises:
        InputError: a module that the model does not have, or nobody to tell the edited ones from.
    """
    parts = editor.edited.parts
    updates = [update] if before is None else [update, before]
    editor.edited.check(one.adapter for one in updates if one.adapter is not None)
    by_name = {parts.projections[layer].name: layer for layer in parts.projections.layers}
    for name in {name for one in updates for name in one.deltas}:
        if name not in by_name:
            raise InputError(f"the model has no FFN output projection '{name}'; the update is of another part of it")
    record = update if before is None else before
    if before is not None and not before.requests:
        raise InputError("the update before camouflage has no record of its facts; give the adapter as it was made")
    edited = {canonical(request.subject) for request in record.requests}
    others = [request for request in candidates if canonical(request.subject) not in edited]
    if edited and not others:
        raise InputError("every candidate is a subject of the update; give some that it was not made for")
    first = {canonical(request.subject): request for request in reversed((*record.requests, *others))}
    asked = list(first.values()) if own_prompts else [
        Request(subject=request.subject, prompt="{}", target_new="-") for request in first.values()
    ]  # fmt: skip
    truth = None if not edited else np.array([name in edited for name in first])

    contexts = check_context_templates(editor.context_templates)
    check_requests(editor.edited.tokenizer, asked, position_limit(editor.edited.model), contexts)
    # The metric that the update was solved in, where a record tells.
    shrinkage = float((record.adapter.method if record.adapter else {}).get("shrinkage") or 0.0)
    numbers = sorted({by_name[name] for one in updates for name in one.deltas})
    keys = measure_keys(editor.edited.model, parts, editor.edited.tokenizer, asked, contexts, numbers)
    names = [request.subject for request in first.values()]
    found = [_leak(editor, one, keys, names, truth, shrinkage, own_prompts) for one in updates]
    return found[0] if before is None else replace(found[0], before=found[1])


def _leak(
    editor: Editor,
    update: Update,
    keys: Mapping[int, Tensor],
    names: Sequence[str],
    truth: np.ndarray[Any, Any] | None,
    shrinkage: float,
    own_prompts: bool,
) -> Leak:
    found, layers = [], []
    for number, measured in keys.items():
        projection = editor.edited.parts.projections[number]
        if projection.name not in update.deltas:
            continue
        rows = row_factor(update.deltas[projection.name]).to(measured.device)
        shared = _shares(editor, number, measured, rows, shrinkage)
        found.append(shared)
        layers.append(
            LayerLeak(
                projection.name, len(rows), len(rows) / rows.shape[1],
                None if truth is None else separation(shared.cpu().numpy(), truth),
            )
        )  # fmt: skip
    mean = torch.stack([share.cpu() for share in found]).mean(0).numpy()
    suspects = [
        Suspect(name, float(share), None if truth is None else bool(truth[i]))
        for i, (name, share) in enumerate(zip(names, mean, strict=True))
    ]
    return Leak(
        tuple(sorted(suspects, key=lambda one: -one.share)), None if truth is None else separation(mean, truth),
        tuple(layers), "own" if own_prompts else "bare", editor.moments is not None,
    )  # fmt: skip


def separation(scores: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> Separation:
    """How well scores (n,) tell the true ones (n,) from the others; equal scores count half."""
    from scipy.stats import rankdata

    positive = int(truth.sum())
    ranks = rankdata(scores)
    auc = (ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive))
    # Of equal scores at the end of the list those not edited come first: a recall is never flattered by ties.
    chosen = np.lexsort((truth, -scores))[:positive]
    hits = int(truth[chosen].sum())
    return Separation(float(auc), hits / positive, wilson(hits, positive), positive / len(truth))


def _shares(editor: Editor, number: int, keys: Tensor, rows: Tensor, shrinkage: float) -> Tensor:
    if editor.moments is None:
        return shares(keys, rows)
    projection = editor.edited.parts.projections[number]
    factored = editor.factorizations([number])
    C0 = shrink(factored.moments.matrices[projection.name].to(keys.device, torch.float64), shrinkage)
    return shares(keys, rows, C0, factored.cholesky(projection, weight=1.0, shrinkage=shrinkage))


def _told_with_interval(found: Separation) -> str:
    low, high = (100 * end for end in found.interval)
    return f"{_told(found)} [{low:.1f}, {high:.1f}]"


def _told(found: Separation) -> str:
    return f"AUC {found.auc:.2f}, recall {100 * found.recall:.0f} %"
