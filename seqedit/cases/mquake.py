"""MQuAKE cases (Zhong et al., 2023, arXiv 2305.14795): edits, and questions whose answer follows from several facts.

The layout is that of ``MQuAKE-CF.json``, ``MQuAKE-CF-3k.json`` and ``MQuAKE-T.json``. Read are ``case_id``,
``requested_rewrite``, ``questions``, ``answer``, ``answer_alias``, ``answer_extended`` (MQuAKE-T), ``new_answer``,
``new_answer_alias``, ``single_hops`` and ``new_single_hops``; ``orig`` (the triples) is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqedit.cases.case import Hop, MultiHopCase, Names
from seqedit.cases.fields import Fields
from seqedit.cases.rows import case_rows, cases_of
from seqedit.errors import RequestError
from seqedit.facts.checks import check_storable
from seqedit.facts.reading.recognise import MQUAKE, is_mquake
from seqedit.facts.reading.unusable import Skipped
from seqedit.facts.requests import Request


def load_mquake(
    source: str | Path, *, limit: int | None = None, on_skipped: Callable[[Skipped], None] | None = None
) -> list[MultiHopCase]:
    """Cases from a JSON or JSONL file in MQuAKE's layout.

    Args:
        source: The file; ``demo:mquake.json`` for cases of the demo world.
        limit: Take only the first cases.
        on_skipped: Called with the cases that cannot be used, which are then left out; without it they are an error.

    Raises:
        InputError: there is no such file, it is no JSON, or it holds something else, which is named.
        RequestError: cases are unusable; names all of them by number (from 1), with their fields.
        EnvironmentFailure: the file cannot be read.
    """
    rows = case_rows(source, MQUAKE, is_mquake)[:limit]
    return cases_of(rows, source, _checked_case, on_skipped)


def _checked_case(row: Any) -> MultiHopCase:
    check_storable(row)
    return mquake_case(row)


def mquake_case(row: Any) -> MultiHopCase:
    """One row as a case.

    Raises:
        RequestError: names the field that is missing or wrong.
    """
    fields = Fields(row)
    case_id = row.get("case_id")
    requests = tuple(_request(rewrite, case_id) for rewrite in fields.objects("requested_rewrite"))
    if not requests:
        raise RequestError("field 'requested_rewrite' holds no edit")
    questions = fields.texts("questions")
    if not questions:
        raise RequestError("field 'questions' holds no question")
    return MultiHopCase(
        case_id,
        requests,
        questions,
        (*_names(fields, "answer"), *fields.texts("answer_extended", optional=True)),
        _names(fields, "new_answer"),
        _hops(fields, "single_hops"),
        _hops(fields, "new_single_hops"),
    )


def _request(rewrite: Fields, case_id: Any) -> Request:
    true = rewrite.object("target_true") if rewrite.has("target_true") else None
    try:
        return Request(
            subject=rewrite.text("subject"),
            prompt=rewrite.text("prompt"),
            target_new=rewrite.object("target_new").text("str"),
            target_true=None if true is None else true.text("str"),
            relation=rewrite.text("relation_id") if rewrite.has("relation_id") else None,
            case_id=case_id,
        )
    except RequestError as error:
        if rewrite.path in str(error):
            raise
        raise RequestError(f"field '{rewrite.path}': {error}") from None


def _names(fields: Fields, field: str) -> Names:
    return fields.text(field), *fields.texts(f"{field}_alias", optional=True)


def _hops(fields: Fields, field: str) -> tuple[Hop, ...]:
    hops = tuple(Hop(hop.text("question"), hop.text("cloze"), _names(hop, "answer")) for hop in fields.objects(field))
    if not hops:
        raise RequestError(f"field '{fields.name(field)}' holds no hop")
    return hops
