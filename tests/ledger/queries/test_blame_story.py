"""Blame says who taught a fact, when, what took it out and why, and where it still is; after a rewrite and gc too."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import Ledger
from ledger.bundles.import_bundle import import_bundle
from ledger.bundles.write import plan_bundle, write_bundle
from ledger.history.entries import ENTRY_FORMAT, TOLD_FORMAT, Entry
from ledger.history.rewrites import rewrite_of
from ledger.queries.blame import Answer
from seqedit.errors import CheckFailed, InputError
from tests.ledger.helpers import MODEL, TIME, build_adapter

WHEN = "2032-03-01T00:00:00Z"


def teach(ledger: Ledger, seed: int, subject: str, target: str, **more) -> Entry:
    return ledger.append(build_adapter(seed, subject=subject, target=target), time=TIME, **more)


def asked(ledger: Ledger, subject: str = "Rome", **more) -> dict[str, Answer]:
    return {answer.taught.entry: answer for answer in ledger.blame(subject, **more)}


def reordered(ledger: Ledger, kept: list[Entry], replayed: list[Entry], reason: str) -> Entry:
    """As a reorder does: what is replayed is made anew after the entries that are kept, and the last one says so."""
    old, start = ledger.log()[::-1], (kept[-1].id if kept else ledger.root())
    ledger.start_branch("work", start)
    pairs: list[tuple[str, str | None]] = []
    entry = ledger.entry(start)
    for number, source in enumerate(replayed, 1):
        last = number == len(replayed)
        rewrite = None
        if last:
            past = {e.id for e in ledger.log(start)}
            rewrite = rewrite_of(
                "reorder", old, past, [*pairs, (source.id, None)], time=WHEN, author="cy", message="b first",
                reason=reason,
            )  # fmt: skip
        entry = ledger.append(
            ledger.adapter(source), branch="work", message=source.message, author=source.author, time=source.time,
            rewrite=rewrite,
        )  # fmt: skip
        pairs.append((source.id, entry.id))
    ledger.reset(entry.id, message="reorder")
    ledger.delete_branch("work")
    return entry


def test_who_set_a_fact_and_why_it_was_reverted_are_told(ledger: Ledger) -> None:
    made = teach(ledger, 1, "Rome", "Peru", message="January", author="ada")
    ledger.start_branch("before")
    ledger.tag("shipped", made.id)
    gone = ledger.revert(made.id, author="cy", reason="wrong source", time=WHEN)
    answer = asked(ledger)[made.id]
    assert (answer.status, answer.by) == ("out of force", gone.id)
    assert answer.set_by is not None
    assert answer.event is not None
    assert (answer.set_by.author, answer.set_by.message, answer.set_by.time) == ("ada", "January", TIME)
    assert (answer.event.operation, answer.event.author, answer.event.time) == ("revert", "cy", WHEN)
    assert answer.event.reason == "wrong source"
    assert answer.refs == ("before", "tag:shipped")


def test_what_superseded_a_fact_is_told(ledger: Ledger) -> None:
    old = teach(ledger, 1, "Rome", "Peru")
    new = teach(ledger, 2, "Rome", "Chile", author="bob", message="correction")
    answer = asked(ledger)[old.id]
    assert (answer.status, answer.by) == ("superseded", new.id)
    assert answer.event is not None
    assert (answer.event.author, answer.event.message) == ("bob", "correction")
    assert answer.now is None
    same = teach(ledger, 3, "Rome", "Peru")
    assert asked(ledger)[old.id].now == same.id


def test_a_merge_says_what_it_took_on_and_what_it_left_out(ledger: Ledger) -> None:
    old = teach(ledger, 1, "Rome", "Peru")
    new = teach(ledger, 2, "Rome", "Chile")
    merged = teach(
        ledger, 3, "Rome", "Chile", operation="merge", targets=[old.id, new.id], reason="one for the quarter"
    )
    found = asked(ledger)
    assert [found[e.id].status for e in (old, new, merged)] == ["out of force", "out of force", "in force"]
    assert found[old.id].left_out
    assert found[old.id].now is None
    assert not found[new.id].left_out
    assert found[new.id].now == merged.id
    event = found[new.id].event
    assert event is not None
    assert event.reason == "one for the quarter"


def dropped_by_reorder(ledger: Ledger) -> tuple[Entry, Entry, Entry]:
    first = teach(ledger, 1, "Rome", "Peru", message="January", author="ada")
    second = teach(ledger, 2, "Lyon", "Japan")
    gone = ledger.revert(first.id, author="cy", reason="wrong source", time=WHEN)
    return first, gone, reordered(ledger, [], [second], "cleaning up")


@pytest.mark.parametrize("collected", [False, True], ids=["before gc", "after gc"])
def test_a_fact_that_a_reorder_took_out_of_the_line_is_found_with_both_reasons(ledger: Ledger, collected: bool) -> None:
    first, gone, tip = dropped_by_reorder(ledger)
    if collected:
        removed = ledger.gc(keep_days=None, grace=0)
        assert first.id in {entry.id for entry in removed.entries}
    answer = asked(ledger)[first.id]
    assert (answer.status, answer.by, answer.taught.target_new) == ("dropped", tip.id, "Peru")
    assert answer.event is not None
    assert answer.before is not None
    assert (answer.event.operation, answer.event.reason, answer.event.author) == ("reorder", "cleaning up", "cy")
    assert (answer.before.entry, answer.before.reason, answer.before.author) == (gone.id, "wrong source", "cy")
    assert answer.refs == ()
    assert asked(ledger, "rome") == {}
    assert asked(ledger, relation="P999") == {}
    assert ledger.verify() == []


def test_what_a_later_rewrite_replaces_is_carried_on(ledger: Ledger) -> None:
    first, _, tip = dropped_by_reorder(ledger)
    third = teach(ledger, 3, "Oslo", "x")
    new = reordered(ledger, [], [third, ledger.entry(tip.id)], "once more")
    ledger.gc(keep_days=None, grace=0)
    answer = asked(ledger)[first.id]
    assert answer.status == "dropped"
    assert answer.event is not None
    assert answer.event.reason == "cleaning up"
    assert ledger.entry(new.id).rewrite["reason"] == "once more"


def test_what_a_rewrite_made_anew_is_elsewhere_and_names_its_successor(ledger: Ledger) -> None:
    first, second = teach(ledger, 1, "Rome", "Peru"), teach(ledger, 2, "Lyon", "Japan")
    tip = reordered(ledger, [], [second, first], "b first")
    assert [a.status for a in ledger.blame("Rome")] == ["in force"]
    answer = asked(ledger, everywhere=True)[first.id]
    assert (answer.status, answer.now) == ("elsewhere", tip.id)
    assert answer.event is not None
    assert answer.event.reason == "b first"


def test_what_a_reset_left_behind_names_the_move(ledger: Ledger) -> None:
    first = teach(ledger, 1, "Rome", "Peru")
    ledger.reset(ledger.root(), message="a false start")
    answer = asked(ledger, everywhere=True)[first.id]
    assert answer.status == "elsewhere"
    assert answer.event is not None
    assert (answer.event.entry, answer.event.message) == ("main", "a false start")


def test_reasons_travel_in_bundles_with_what_was_dropped(ledger: Ledger, tmp_path: Path) -> None:
    first, gone, _ = dropped_by_reorder(ledger)
    file = tmp_path / "history.zip"
    write_bundle(ledger, plan_bundle(ledger), file)
    import_bundle(tmp_path / "theirs", file)
    with Ledger.open(tmp_path / "theirs") as theirs:
        answer = asked(theirs)[first.id]
        assert answer.before is not None
        assert (answer.before.entry, answer.before.reason) == (gone.id, "wrong source")
        assert theirs.verify() == []


def test_a_bundle_whose_entry_keeps_a_malformed_rewrite_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    first = teach(ledger, 1, "Rome", "Peru")
    good = rewrite_of("rebase", ledger.log()[::-1], {first.id}, [], time=TIME, message="nothing")
    ledger.record_rewrite({**good, "dropped": [{"entry": {"entry": 3}}]}, branch="main", parent=first.id)
    write_bundle(ledger, plan_bundle(ledger), tmp_path / "history.zip")
    with pytest.raises(CheckFailed, match="what it keeps of a rebase is malformed"):
        import_bundle(tmp_path / "theirs", tmp_path / "history.zip")


def test_a_note_of_a_rewrite_changes_no_state_and_can_be_reverted_by_nobody(ledger: Ledger) -> None:
    first = teach(ledger, 1, "Rome", "Peru")
    before = ledger.state_ids()[first.id]
    rewrite = rewrite_of("rebase", ledger.log()[::-1], {first.id}, [], time=TIME, message="nothing")
    note = ledger.record_rewrite(rewrite, branch="main", parent=first.id, author="cy")
    assert ledger.state_ids()[note.id] == before
    assert ledger.active_ids() == [first.id]
    with pytest.raises(InputError, match="change nothing"):
        ledger.revert(note.id)
    assert ledger.verify() == []


def test_an_entry_that_tells_nothing_has_the_id_it_always_had_and_one_that_does_is_covered_by_its_own() -> None:
    plain = Entry(MODEL, "root", TIME)
    told = Entry(MODEL, "root", TIME, reason="because")
    assert f'"format":{ENTRY_FORMAT}' in plain.content
    assert "reason" not in plain.content
    assert f'"format":{TOLD_FORMAT}' in told.content
    assert told.id != plain.id
    again = Entry.from_content(told.content)
    assert (again.reason, again.id) == ("because", told.id)
    with pytest.raises(InputError, match=r"format 3 .* newer seqedit"):
        Entry.from_content(told.content.replace(f'"format":{TOLD_FORMAT}', '"format":3'))
