"""RippleEdits cases (Cohen et al., 2023, arXiv 2307.12976): an edit, and what should and should not follow from it.

The layout is that of ``recent.json``, ``random.json`` and ``popular.json``. Read are ``example_type``, ``edit``
(``prompt``, ``subject_id``, ``relation``, ``target_id``, ``previous_fact``) and the six criteria, each a list of tests
with ``test_queries``, ``test_condition`` and ``condition_queries``; of a query its ``prompt``, ``answers`` and ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqedit.cases.case import CRITERIA, Query, RippleCase, RippleTest
from seqedit.cases.fields import Fields
from seqedit.cases.rows import case_rows, cases_of
from seqedit.cases.statements import Vocabulary
from seqedit.errors import RequestError
from seqedit.facts.checks import check_storable, check_text, short
from seqedit.facts.fields import template
from seqedit.facts.reading.recognise import RIPPLE, is_ripple
from seqedit.facts.reading.spellings import RIPPLE as RIPPLE_SPELLINGS
from seqedit.facts.reading.spellings import spelled
from seqedit.facts.reading.unusable import Skipped
from seqedit.facts.requests import Request


def load_ripple(
    source: str | Path,
    *,
    limit: int | None = None,
    on_unusable: Callable[[str], None] | None = None,
    on_skipped: Callable[[Skipped], None] | None = None,
) -> list[RippleCase]:
    """Cases from a JSON or JSONL file in RippleEdits' layout.

    The published files name subject and target of an edit by Wikidata id only; their names are told from the file's
    own prompts (`seqedit.cases.statements`). Optional fields ``subject`` and ``target`` in ``edit`` overrule that.

    Args:
        source: The file; ``demo:ripple.json`` for cases of the demo world.
        limit: Take only the first cases.
        on_unusable: Called with the message of every case that cannot be used, which is then left out.
        on_skipped: Called with all of them at once; without it and ``on_unusable`` they are an error.

    Raises:
        InputError: there is no such file, it is no JSON, or it holds something else, which is named.
        RequestError: cases are unusable; names all of them by number (from 1), with their fields.
        EnvironmentFailure: the file cannot be read.
    """
    rows = case_rows(source, RIPPLE, is_ripple)
    vocabulary = Vocabulary(row for _, row in rows)

    def read(row: Any) -> RippleCase:
        check_storable(row)
        return ripple_case(row, vocabulary)

    def left_out(skipped: Skipped) -> None:
        if on_unusable is not None:
            for item in skipped.records:
                on_unusable(f"{item.where}: {item.message}")
        if on_skipped is not None:
            on_skipped(skipped)

    refused = on_unusable is None and on_skipped is None
    return cases_of(rows[:limit], source, read, None if refused else left_out)


def ripple_case(row: Any, vocabulary: Vocabulary) -> RippleCase:
    """One row as a case.

    Raises:
        RequestError: names the field that is missing or wrong.
    """
    fields = Fields(row)
    tests = {name: _tests(fields, name) for name in CRITERIA}
    kind = fields.text("example_type") if fields.has("example_type") else "unknown"
    return RippleCase(kind, _request(fields.object("edit"), vocabulary), tests)


def _request(edit: Fields, vocabulary: Vocabulary) -> Request:
    statement, relation = edit.text("prompt"), edit.text("relation")
    before = spelled(edit.value, "previous_fact", RIPPLE_SPELLINGS)
    previous = edit.object(before).text("prompt") if edit.has(before) else None
    found = vocabulary.read(
        statement,
        relation,
        str(edit.get("subject_id")),
        str(edit.get("target_id")),
        previous,
        subject=edit.text("subject") if edit.has("subject") else None,
        target=edit.text("target") if edit.has("target") else None,
    )
    return Request(
        subject=found.subject,
        prompt=template(found.prompt, found.subject, "edit.prompt"),
        target_new=found.target,
        target_true=found.previous,
        relation=relation,
    )


def _tests(fields: Fields, criterion: str) -> tuple[RippleTest, ...]:
    name = spelled(fields.value, criterion, RIPPLE_SPELLINGS) if criterion in RIPPLE_SPELLINGS else criterion
    if not fields.has(name):
        raise RequestError(f"field '{name}' is missing")
    tests = []
    for test in fields.objects(name):
        queries = tuple(_query(query) for query in test.objects("test_queries"))
        if not queries:
            raise RequestError(f"field '{test.name('test_queries')}' holds no query")
        condition = test.text("test_condition") if test.has("test_condition") else "OR"
        if condition not in ("OR", "AND"):
            raise RequestError(f"field '{test.name('test_condition')}' must be OR or AND, got {short(condition)}")
        conditions = test.objects("condition_queries") if test.has("condition_queries") else []
        tests.append(RippleTest(queries, condition == "AND", tuple(_query(query) for query in conditions)))
    return tuple(tests)


def _query(fields: Fields) -> Query:
    answers = []
    for answer in fields.objects("answers"):
        names = (check_text(answer.get("value"), answer.name("value")), *answer.texts("aliases", optional=True))
        # As published: a name of one character is none, unless it is a number.
        answers.append(tuple(name for name in names if len(name.strip()) > 1 or name.strip().isdigit()))
    if not answers:
        raise RequestError(f"field '{fields.name('answers')}' holds no answer")
    return Query(fields.text("prompt"), tuple(answers))
