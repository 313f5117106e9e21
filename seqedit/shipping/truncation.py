"""What a truncation or a camouflage does to the edits: ES, PS and NS with the exact delta and with the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evals.scores.counterfact import score_tokenized, tokenize_records
from seqedit.errors import InputError
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Record, Request
from seqedit.models.edited import EditedModel
from seqedit.shipping.export import Exported, check_base

METRICS = ("ES", "PS", "NS", "EM")


def records_for(requests: Sequence[Request], records: Sequence[Record] | None) -> list[Record]:
    """The records that score the facts of an export.

    Args:
        requests: The facts in force.
        records: Records to take them from; None scores the requests alone, without paraphrases or neighbours.

    Raises:
        InputError: none of the records edits one of these facts to the same answer.
    """
    if records is None:
        return [Record(request) for request in requests]
    wanted = {(*request.fact, canonical(request.target_new)) for request in requests}
    chosen = [r for r in records if (*r.request.fact, canonical(r.request.target_new)) in wanted]
    if not chosen:
        raise InputError("none of the given records is about a fact of this export; leave --records out or give others")
    return chosen


def measure_effect(exported: Exported, edited: EditedModel, records: Sequence[Record]) -> Exported:
    """Score the exact adapter and the truncated or camouflaged one on the base model.

    Args:
        exported: A truncated or camouflaged export.
        edited: The loaded base model; left unedited.
        records: What to score.

    Returns:
        The export with the scores, in percent, in its truncation or camouflage.

    Raises:
        InputError: it is neither, or the model is another one.
    """
    shipped = exported.shipped
    if shipped.truncation is None and shipped.camouflage is None:
        raise InputError("nothing was truncated or camouflaged, so there is nothing to measure")
    check_base(exported.adapter.base_model, edited.base_model)
    tokenized = tokenize_records(edited.tokenizer, records)
    found = []
    for adapter in (exported.exact, exported.adapter):
        edited.apply([adapter])
        scores = score_tokenized(edited.model, tokenized).summary
        found.append({metric: scores[metric] for metric in METRICS if scores[metric] is not None})
    edited.write({})
    measured: dict[str, Any] = {"before": found[0], "after": found[1], "records": len(records)}
    if shipped.camouflage is not None:
        return replace(exported, shipped=replace(shipped, camouflage=replace(shipped.camouflage, **measured)))
    assert shipped.truncation is not None
    return replace(exported, shipped=replace(shipped, truncation=replace(shipped.truncation, **measured)))
