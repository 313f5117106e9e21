"""Several histories at once, and what every entry changed."""

from __future__ import annotations

import pytest

from ledger import Ledger
from ledger.history.diff import fact_changes
from seqedit.errors import InputError
from tests.ledger.helpers import TIME, build_adapter


@pytest.fixture
def story(ledger: Ledger) -> tuple[Ledger, dict[str, str]]:
    ids = {"root": ledger.root()}
    ids["a"] = ledger.append(build_adapter(1, subject="Rome", target="Peru"), time=TIME, message="a", author="ada").id
    ids["b"] = ledger.append(build_adapter(2, subject="Rome", target="Chile"), time=TIME, message="b").id
    ledger.start_branch("side", ids["a"])
    ids["c"] = ledger.append(build_adapter(3, subject="Lyon", target="x"), branch="side", time=TIME, message="c").id
    ids["r"] = ledger.revert(ids["b"], reason="wrong", time=TIME).id
    ids["m"] = ledger.append(
        build_adapter(4, subject="Lyon", target="x"), operation="merge", targets=[ids["a"]], others=[ids["c"]],
        time=TIME, message="m",
    ).id  # fmt: skip
    ledger.tag("v1", ids["b"])
    return ledger, ids


def test_everything_is_listed_once_and_every_entry_before_its_parents(story) -> None:
    ledger, ids = story
    rows = ledger.log_told(everything=True)
    assert sorted(row["id"] for row in rows) == sorted(ids.values())
    place = {row["id"]: position for position, row in enumerate(rows)}
    assert all(place[row["id"]] < place[parent] for row in rows for parent in row["parents"])
    assert [row["id"] for row in ledger.log_told(merged=True, limit=2)] == [row["id"] for row in rows[:2]]
    assert [row["id"] for row in ledger.log_told("side", merged=True)] == [ids["c"], ids["a"], ids["root"]]


def test_rows_name_authors_reasons_and_the_refs_that_are_there_and_are_else_those_of_log_rows(story) -> None:
    ledger, ids = story
    rows = ledger.log_told()
    by_id = {row["id"]: row for row in rows}
    assert by_id[ids["a"]]["author"] == "ada"
    assert by_id[ids["r"]]["reason"] == "wrong"
    assert by_id[ids["m"]]["refs"] == ["HEAD -> main"]
    assert by_id[ids["b"]]["refs"] == ["tag: v1"]
    added = ("author", "reason", "origin", "refs")
    assert [{k: v for k, v in row.items() if k not in added} for row in rows] == ledger.log_rows()
    whole = {row["id"]: row for row in ledger.log_told(everything=True)}
    assert all(whole[row["id"]] == row for row in rows)


def test_a_patch_is_the_difference_of_two_states_for_every_operation(story) -> None:
    ledger, ids = story
    found = ledger.patches(ids.values())
    assert found[ids["root"]] == ()
    for name in ("a", "b", "c", "r", "m"):
        entry = ledger.entry(ids[name])
        expected = fact_changes(ledger.facts(entry.parents[0]), ledger.facts(entry.id))
        assert sorted(map(repr, found[entry.id])) == sorted(map(repr, expected)), name
    assert [change.kind for change in found[ids["b"]]] == ["superseded"]
    assert [(c.kind, c.new.target_new) for c in found[ids["r"]] if c.new] == [("superseded", "Peru")]


def test_a_pick_takes_the_adapter_over_and_names_where_it_comes_from(story) -> None:
    ledger, ids = story
    made = ledger.cherry_pick(ids["b"], reason="right after all", time=TIME)
    source = ledger.entry(ids["b"])
    assert (made.adapter, made.requests, made.origin) == (source.adapter, source.requests, source.id)
    assert (made.message, made.author, made.reason) == ("b", "", "right after all")
    assert ledger.active_ids()[-1] == made.id
    assert ledger.facts()[made.requests[0].fact][1].target_new == "Chile"
    assert ledger.verify() == []
    again = Ledger.entry(ledger, made.id)
    assert again.origin == source.id


def test_a_pick_refuses_what_is_in_force_or_adds_nothing_and_so_does_its_check(story) -> None:
    ledger, ids = story
    ledger.cherry_pick(ids["b"])
    head = ledger.head()
    for name, why in (("b", "already active"), ("r", "adds no adapter"), ("root", "adds no adapter")):
        for act in (ledger.cherry_pick, lambda rev: ledger.check_cherry_pick([rev])):
            with pytest.raises(InputError, match=why):
                act(ids[name])
    ledger.reset("HEAD~1")
    with pytest.raises(InputError, match="already active"):
        ledger.check_cherry_pick([ids["b"], ids["b"]])
    assert ledger.resolve("HEAD") != head
