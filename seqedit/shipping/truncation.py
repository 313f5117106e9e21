"""What a truncation does to the edits: ES, PS and NS with the exact delta and with the truncated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evals.scores.counterfact import score_tokenized, tokenize_records
from seqedit.adapters.adapter import Adapter
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


def measure_truncation(exported: Exported, edited: EditedModel, records: Sequence[Record]) -> Exported:
    """Score the exact and the truncated adapter on the base model.

    Args:
        exported: A truncated export.
        edited: The loaded base model; left unedited.
        records: What to score.

    Returns:
        The export with the scores, in percent, in its truncation.

    Raises:
        InputError: it is not truncated, or the model is another one.
    """
    truncation = exported.shipped.truncation
    if truncation is None:
        raise InputError("nothing was truncated, so there is nothing to measure")
    check_base(exported.adapter.base_model, edited.base_model)
    tokenized = tokenize_records(edited.tokenizer, records)
    found = []
    for adapter in (exported.exact, exported.adapter):
        _write(edited, adapter)
        scores = score_tokenized(edited.model, tokenized).summary
        found.append({metric: scores[metric] for metric in METRICS if scores[metric] is not None})
    edited.write({})
    truncation = replace(truncation, before=found[0], after=found[1], records=len(records))
    return replace(exported, shipped=replace(exported.shipped, truncation=truncation))


def _write(edited: EditedModel, adapter: Adapter) -> None:
    edited.apply([adapter])
