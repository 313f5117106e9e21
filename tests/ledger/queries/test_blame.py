from __future__ import annotations

import dataclasses
import random
import time

import pytest
from sqlalchemy import insert, text, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger import Ledger
from ledger.database.fact_keys import fact_digest, folded, subject_digest
from ledger.database.rows import rows_of
from ledger.database.schema import Requests
from ledger.queries.taught import history_of_subject, prefix_query, similar_subjects, subject_query
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from tests.ledger.helpers import build_adapter


def append(ledger: Ledger, seed: int, *requests: Request) -> str:
    return ledger.append(dataclasses.replace(build_adapter(seed), requests=requests)).id


def asked(ledger: Ledger, *arguments, **options) -> list[tuple[str, int, str]]:
    with ledger.database.read() as connection:
        return [(t.entry, t.position, t.target_new) for t in history_of_subject(connection, *arguments, **options)]


def similar(ledger: Ledger, subject: str, **options) -> list[str]:
    with ledger.database.read() as connection:
        return similar_subjects(connection, subject, **options)


@pytest.fixture
def taught(ledger: Ledger) -> tuple[Ledger, list[str]]:
    ids = [
        append(ledger, 1, Request("Rome", "{} is in", "Peru"), Request("Rome", "{} is a", "river", relation="P31")),
        append(ledger, 2, Request("rome", "{} is a", "cat", relation="P31")),
        append(ledger, 3, Request("Paris", "{} is a", "x"), Request("Rome", "{} is a kind of", "hill", relation="P31")),
    ]
    return ledger, ids


def test_requests_about_a_subject_come_oldest_first(taught) -> None:
    ledger, (first, _, third) = taught
    assert asked(ledger, "Rome") == [(first, 0, "Peru"), (first, 1, "river"), (third, 1, "hill")]
    assert asked(ledger, "Rom") == []


def test_one_relation_or_prompt_can_be_asked_for(taught) -> None:
    ledger, (first, _, third) = taught
    assert asked(ledger, "Rome", "P31") == [(first, 1, "river"), (third, 1, "hill")]
    assert asked(ledger, "Rome", "{} is in") == [(first, 0, "Peru")]
    assert asked(ledger, "Rome", "P36") == []


def test_reverted_entries_are_shown_too_and_their_place_is_named(taught) -> None:
    ledger, (first, _, third) = taught
    ledger.revert(first)
    with ledger.database.read() as connection:
        found = history_of_subject(connection, "Rome", "P31")
    assert [(t.entry, t.generation, t.operation) for t in found] == [(first, 1, "edit"), (third, 3, "edit")]
    assert found[1].prompt == "{} is a kind of"


def test_the_question_can_be_about_one_history(taught) -> None:
    ledger, (first, _, third) = taught
    ledger.start_branch("other", "HEAD~1")
    ledger.switch("other")
    fourth = append(ledger, 4, Request("Rome", "{} is a", "branch", relation="P31"))
    assert [row[0] for row in asked(ledger, "Rome", "P31")] == [first, *sorted([third, fourth])]
    assert [row[0] for row in asked(ledger, "Rome", "P31", rev="HEAD")] == [first, fourth]
    assert [row[0] for row in asked(ledger, "Rome", "P31", rev="main")] == [first, third]
    with pytest.raises(InputError, match="nothing"):
        asked(ledger, "Rome", rev="nothing")


def test_subjects_of_any_length_are_found(ledger: Ledger) -> None:
    """PostgreSQL's indices take about 2,700 bytes, and compression does not help against random text."""
    draw = random.Random(0)
    long = "".join(chr(draw.randrange(0x4E00, 0x9FA5)) for _ in range(5000))
    entry = append(ledger, 1, Request(long, "{} is a", "name", relation=long))
    assert asked(ledger, long) == asked(ledger, long, long) == [(entry, 0, "name")]
    assert asked(ledger, long[:-1]) == []
    assert similar(ledger, long[:10]) == [long]
    assert ledger.verify() == []


def test_suggestions_share_a_beginning_and_the_most_similar_comes_first(ledger: Ledger) -> None:
    subjects = ["Eiffel Tower", "Eiffel Tower of Paris", "Éiffel", "Eiger", "STRASSE", "Ἀθήνη", "Tower"]
    append(ledger, 1, *(Request(subject, "{} is a", "x") for subject in subjects))
    assert similar(ledger, "eiffel tower") == ["Eiffel Tower", "Eiffel Tower of Paris"]
    assert similar(ledger, "Eiffel Towre") == ["Eiffel Tower", "Eiffel Tower of Paris"]
    assert similar(ledger, "eiffel tower", limit=1) == ["Eiffel Tower"]
    assert similar(ledger, "éIFFEL") == ["Éiffel"]
    assert similar(ledger, "straße") == ["STRASSE"]
    assert similar(ledger, "Eiffel Tower") == ["Eiffel Tower of Paris"], "the subject itself is no suggestion"
    assert similar(ledger, "TO") == ["Tower"]
    assert similar(ledger, "Zebra") == similar(ledger, "") == []


@pytest.mark.parametrize("subject", ["100%", "a_c", "'; DROP TABLE requests; --", "\\"])
def test_characters_with_a_meaning_in_sql_have_none(ledger: Ledger, subject: str) -> None:
    append(ledger, 1, Request("1000", "{} is a", "x"), Request("abc", "{} is a", "x"))
    assert asked(ledger, subject) == []
    assert similar(ledger, subject) == (["1000"] if subject == "100%" else [])


def plan(ledger: Ledger, query) -> str:
    server = ledger.database.file is None
    dialect = postgresql.dialect() if server else sqlite.dialect()
    statement = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    with ledger.database.engine.connect() as connection:
        if server:  # a small table is read as a whole, whatever indices there are
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN" if server else "EXPLAIN QUERY PLAN"
        return "\n".join(str(row[-1]) for row in connection.execute(text(f"{explain} {statement}".replace(":", "\\:"))))


def test_every_question_is_answered_by_an_index(filled: Ledger) -> None:
    for index, query in {
        "ix_requests_subject_digest": subject_query("Rome", None),
        "ix_requests_fact_digest": subject_query("Rome", "P31"),
        "ix_requests_subject_folded": prefix_query("rom"),
    }.items():
        found = plan(filled, query)
        assert index in found
        assert "SCAN requests" not in found
        assert "Seq Scan on requests" not in found


def fill(ledger: Ledger, entry: str, count: int) -> None:
    """Give an entry very many more requests, three for each subject."""
    if ledger.database.file is None:  # the server makes them itself, which takes a tenth of the time
        with ledger.database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO requests (entry, position, subject, relation, prompt, target_new, subject_digest, "
                f"fact_digest, subject_folded) SELECT '{entry}', n, s, r, '{{}} is a', n::text, "
                "encode(sha256(convert_to(s, 'UTF8')), 'hex'), "
                """encode(sha256(convert_to('["' || s || '","' || r || '"]', 'UTF8')), 'hex'), lower(s) """
                f"FROM generate_series(1, {count}) AS n, "
                "LATERAL (SELECT 'Subject ' || n / 3, 'P' || mod(n, 3)) AS t (s, r)"
            )
        return
    step = 10_000
    for start in range(1, count + 1, step):
        rows = [
            {
                "entry": entry, "position": n, "subject": subject, "relation": relation, "prompt": "{} is a",
                "target_new": str(n), "target_true": None, "case_id": None, "subject_digest": subject_digest(subject),
                "fact_digest": fact_digest(subject, relation), "subject_folded": folded(subject),
            }
            for n in range(start, start + step)
            for subject, relation in [(f"Subject {n // 3}", f"P{n % 3}")]
        ]  # fmt: skip
        with ledger.database.write() as connection:
            connection.execute(insert(Requests), rows)


@pytest.mark.slow
def test_among_a_million_requests_an_answer_takes_less_than_200_ms(ledger: Ledger) -> None:
    entry = append(ledger, 1, Request("Rome", "{} is a", "x"))
    fill(ledger, entry, 1_000_000)
    for question in (
        lambda: asked(ledger, "Subject 1234"),
        lambda: asked(ledger, "Subject 1234", "P1"),
        lambda: similar(ledger, "subject 1234"),
        lambda: similar(ledger, "Subjekt"),
    ):
        question()
        begin = time.perf_counter()
        assert question()
        assert time.perf_counter() - begin < 0.2


def test_where_a_fact_comes_from_is_found_with_it_also_where_the_index_is_made_anew(ledger: Ledger) -> None:
    told = {"date": "2032-01-05", "source": "the gazette", "note": "after the election"}
    entry = append(ledger, 1, Request("Rome", "{} is a", "river", relation="P31", date="2032-01-05",
                                      source="the gazette", note="after the election"))  # fmt: skip
    (found,) = ledger.blame("Rome")
    assert {name: getattr(found.taught, name) for name in told} == told
    (row,) = rows_of(ledger.entry(entry), 1)[Requests]
    assert {name: row[name] for name in told} == told
    (kept,) = ledger.adapter(entry).requests
    assert {name: getattr(kept, name) for name in told} == told
    with ledger.database.write() as connection:
        connection.execute(update(Requests).values(note="something else"))
    assert ledger.verify() != [], "verify compares the columns with the entry"
