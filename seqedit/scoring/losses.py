"""Which facts of a history were lost, at which step, and to whom: from measured answers and the stored keys.

A fact is lost where the model, which answered it right after its step, no longer does at the end. Whom it was lost to
cannot be measured one by one, as a batch is written as a whole: named is the request, among those written when it was
lost, whose key lies nearest. Cosines are the plain ones; those of the solver (`seqedit plan`) need second moments,
which a ledger does not keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ledger import Entry, Ledger
from seqedit.errors import CheckFailed
from seqedit.scoring.state_scores import batch_scores
from seqedit.scoring.summary_types import RunSummary

if TYPE_CHECKING:  # torch takes seconds to import, and a history without losses does not need it
    from torch import Tensor

MOST_COMPARED = 4000
"""Of a history with more facts only the lost ones' keys are compared: all pairs would take minutes."""

Keys = Mapping[str, "Tensor"]


def tell_losses(ledger: Ledger, rev: str, summary: RunSummary) -> RunSummary:
    """Say in a summary of ``rev`` what was lost and which keys lie near each other; changes and returns it.

    Facts that were lost get "lost_at" (step) and "lost_to" ({"step", "subject", "prompt", "target_new", "cosine"}, the
    request with the nearest key written then; None where no key is stored). Steps get "interference": the nearest pair
    of a new key and one of a fact in force before ({"cosine", "new", "earlier", "step", "near"}, "near" being how many
    facts in force have a new key all but on theirs). The summary gets "losses": {"known": whether answers of earlier
    facts were measured, "keys": why keys were not compared, or None}.

    Raises:
        InputError: there is no such revision.
    """
    entries = ledger.log(rev)[::-1][1:]
    lost, known = _lost(entries, batch_scores(ledger, entries), summary)
    brought = [t for t, entry in enumerate(entries) if entry.adapter is not None]
    whole = sum(len(entries[t].requests) for t in brought) <= MOST_COMPARED
    wanted = set(brought) if whole else {t for i, _, last, at in lost for t in (i, *range(last + 1, at + 1))}
    trouble = None if whole else f"more than {MOST_COMPARED} facts: only keys of lost ones were compared"
    keys: dict[int, Keys] = {}
    try:
        keys = {t: _directions(ledger.adapter(entries[t]).keys) for t in sorted(wanted) if t in brought}
    except CheckFailed as error:
        trouble = str(error)
    for i, position, last, at in lost:
        fact = summary["steps"][i]["facts"][position]
        fact["lost_at"] = at + 1
        fact["lost_to"] = _nearest(keys, entries, i, position, range(last + 1, at + 1))
    if whole:
        _interference(keys, entries, summary)
    summary["losses"] = {"known": known, "keys": trouble}
    return summary


def _lost(
    entries: Sequence[Entry], rows: Sequence[Mapping[str, Mapping[str, Any]]], summary: RunSummary
) -> tuple[list[tuple[int, int, int, int]], bool]:
    """(step, position, last step with the answer, step it was lost at), from 0; and whether answers were measured.

    Only facts still in force count: what a later batch superseded, or a revert took out, is not lost.
    """
    found, known = [], False
    for i, entry in enumerate(entries):
        answers: dict[int, dict[int, bool]] = {}
        for t in range(i, len(entries)):
            row = rows[t].get(entry.id) or {}
            for name, answered in (("answered", True), ("missed", False)):
                for position in row.get(name) or ():
                    answers.setdefault(int(position), {})[t] = answered
        for position, fact in enumerate(summary["steps"][i]["facts"]):
            told = answers.get(position) or {}
            known = known or any(t > i for t in told)
            # The batch's own scores tell of the first step too, in ledgers of earlier versions as well.
            if fact.get("argmax_correct") is not None:
                told = {i: bool(fact["argmax_correct"]), **told}
            steps = sorted(told)
            if not fact.get("in_force") or not told.get(i) or told[steps[-1]]:
                continue
            last = max(t for t in steps if told[t])
            found.append((i, position, last, min(t for t in steps if t > last)))
    return found, known


def _directions(keys: Mapping[str, Tensor]) -> Keys:
    """Keys of length 1, so that cosines are products."""
    import torch

    return {name: torch.nn.functional.normalize(rows.float(), dim=1) for name, rows in keys.items()}


def _nearest(
    keys: Mapping[int, Keys], entries: Sequence[Entry], i: int, position: int, steps: Iterable[int]
) -> dict[str, Any] | None:
    best: tuple[float, int, int] | None = None
    for t in steps:
        for name, rows in (keys.get(t) or {}).items():
            own = (keys.get(i) or {}).get(name)
            if own is None or not len(rows) or own.shape[1] != rows.shape[1]:
                continue
            cosines = rows @ own[position]
            value, at = float(cosines.max()), int(cosines.argmax())
            if best is None or value > best[0]:
                best = (value, t, at)
    if best is None:
        return None
    return {"step": best[1] + 1, "cosine": round(best[0], 4), **_words(entries[best[1]], best[2])}


def _interference(keys: Mapping[int, Keys], entries: Sequence[Entry], summary: RunSummary) -> None:
    """The nearest pair at every step; of several layers the nearest one counts."""
    import torch

    from seqedit.planning.pairs import NEAR_KEY

    gone: set[str] = set()
    for t, entry in enumerate(entries):
        gone.update(entry.targets)
        if t not in keys:
            continue
        best: tuple[float, int, int, int] | None = None
        near = compared = 0
        again = {request.fact for request in entry.requests}  # what the batch says anew is superseded, not endangered
        for i in range(t):
            if i not in keys or entries[i].id in gone:
                continue
            kept = [p for p, request in enumerate(entries[i].requests) if request.fact not in again]
            both = [
                keys[i][name][kept] @ keys[t][name].T
                for name in keys[t]
                if kept and name in keys[i] and keys[i][name].shape[1:] == keys[t][name].shape[1:]
            ]
            if not both or not both[0].numel():
                continue
            cosines = torch.stack(both).amax(0)
            compared += len(kept)
            near += int((cosines.amax(1) >= NEAR_KEY).sum())
            value = float(cosines.max())
            if best is None or value > best[0]:
                old, new = divmod(int(cosines.argmax()), cosines.shape[1])
                best = (value, i, kept[old], new)
        if best is not None:
            value, i, old, new = best
            summary["steps"][t]["interference"] = {
                "cosine": round(value, 4), "near": near, "compared": compared, "step": i + 1,
                "new": _words(entry, new), "earlier": _words(entries[i], old),
            }  # fmt: skip


def _words(entry: Entry, position: int) -> dict[str, Any]:
    request = entry.requests[position]
    return {"subject": request.subject, "prompt": request.text, "target_new": request.target_new}
