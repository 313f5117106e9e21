"""One fact is one, however it is written: superseding, blame, contradictions, differences, and older ledgers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import Ledger
from ledger.database.fact_keys import fact_digest
from seqedit.errors import RequestError
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request, check_batch
from tests.ledger.helpers import build_adapter

NFC = unicodedata.normalize("NFC", "Go Hyŏn-jŏng Gruegadahl 한국 Ångström")
NFD = unicodedata.normalize("NFD", NFC)
SPACED = " " + NFC.replace(" ", "\u00a0 ")
SAME = (NFC, NFD, SPACED)


def request(subject: str, target: str, relation: str | None = "P1", prompt: str = "{} lives in") -> Request:
    return Request(subject, prompt, target, relation=relation)


def append(ledger: Ledger, seed: int, *requests: Request) -> str:
    return ledger.append(dataclasses.replace(build_adapter(seed), requests=requests)).id


@pytest.mark.parametrize("second", [NFD, SPACED])
@pytest.mark.parametrize("relation", ["P1", None])
def test_a_fact_written_in_another_way_supersedes_it(ledger: Ledger, second: str, relation: str | None) -> None:
    first, later = request(NFC, "Rome", relation), request(second, "Paris", relation)
    assert first.fact == later.fact
    old = append(ledger, 1, first)
    assert [overlap.kind for overlap in ledger.overlaps([later])] == ["supersedes"]
    new = append(ledger, 2, later)
    assert ledger.live_requests() == {old: (), new: (0,)}
    assert [change.kind for change in ledger.diff("HEAD~1").facts] == ["superseded"]
    for spelling in SAME:
        answers = ledger.blame(spelling, relation)
        assert [(a.status, a.taught.target_new) for a in answers] == [("superseded", "Rome"), ("in force", "Paris")]
    # Kept, and shown, as it was written.
    assert [a.taught.subject for a in ledger.blame(NFC)] == [NFC, second]
    assert ledger.verify() == []


def test_prompts_and_targets_are_compared_in_the_same_way(ledger: Ledger) -> None:
    append(ledger, 1, request("Rome", "Ångström", None, "{} est située à"))
    written = Request(
        "Rome", unicodedata.normalize("NFD", "{} est  située à"), unicodedata.normalize("NFD", "Ångström")
    )
    assert [overlap.kind for overlap in ledger.overlaps([written])] == ["repeats"]


def test_two_spellings_in_one_batch_are_duplicates_or_contradict_each_other() -> None:
    with pytest.raises(RequestError, match="contradictory requests 0 and 1"):
        check_batch([request(NFC, "Rome"), request(NFD, "Paris")])
    with pytest.raises(RequestError, match="duplicate requests 0 and 1"):
        check_batch([request(NFC, "Rome"), request(SPACED, "Rome")])
    with pytest.raises(RequestError, match="contradictory"):  # another relation, the very same text
        check_batch([request(NFC, "Rome", "P1"), request(NFD, "Paris", "P2")])


@pytest.mark.parametrize(
    ("one", "other"),
    [("apple", "Apple"), ("\ufb01n", "fin"), ("\uff21", "A"), ("a\u200bb", "ab"), ("\u0410", "A")],
    ids=["case", "ligature", "full width", "no width", "another script"],
)
def test_what_a_reader_can_tell_apart_are_two_facts(one: str, other: str) -> None:
    assert request(one, "x").fact != request(other, "x").fact
    check_batch([request(one, "x"), request(other, "y")])


@given(st.text(max_size=50))
def test_the_canonical_spelling_is_stable_and_that_of_every_equivalent_text(text: str) -> None:
    found = canonical(text)
    assert canonical(found) == found
    assert canonical(f" {text}\n") == found
    assert canonical(unicodedata.ucd_3_2_0.normalize("NFD", text)) == found


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A ledger as schema 2 wrote it: each spelling has a digest of its own."""
    place = tmp_path / "old"
    with Ledger.create(place, build_adapter(1).base_model) as ledger:
        append(ledger, 1, request(NFC, "Rome"))
        append(ledger, 2, request(NFD, "Paris"), request("plain", "Oslo"))
    connection = sqlite3.connect(place / "ledger.db")
    for entry, position, subject, relation in connection.execute(
        "SELECT entry, position, subject, relation FROM requests"
    ).fetchall():
        fact = json.dumps([subject, relation], ensure_ascii=False, separators=(",", ":"))
        connection.execute(
            "UPDATE requests SET subject_digest = ?, fact_digest = ? WHERE entry = ? AND position = ?",
            (*(hashlib.sha256(t.encode()).hexdigest() for t in (subject, fact)), entry, position),
        )
    for column in ("date", "source", "note"):  # which came with schema 4
        connection.execute(f"ALTER TABLE requests DROP COLUMN {column}")
    connection.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")
    connection.commit()
    connection.close()
    return place


def test_a_ledger_of_schema_2_is_read_and_its_spellings_become_one_fact(older: Path) -> None:
    with Ledger.open(older) as ledger:
        assert ledger.verify() == []
        first, second = (ledger.resolve("HEAD~1"), ledger.head())
        assert ledger.live_requests() == {first: (), second: (0, 1)}
        assert len(ledger.blame(NFC, "P1")) == 2
    assert (older / "ledger.db.schema2.bak").is_file()
    connection = sqlite3.connect(older / "ledger.db")
    digests = dict(connection.execute("SELECT subject, fact_digest FROM requests").fetchall())
    connection.close()
    assert digests == {subject: fact_digest(NFC if subject == NFD else subject, "P1") for subject in digests}
