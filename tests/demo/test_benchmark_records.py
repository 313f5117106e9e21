"""The demo world's MQuAKE and RippleEdits records: layout, truth, and that they can be edited together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit import demo
from seqedit.cases.case import CRITERIA, disturbed, joint_requests
from seqedit.cases.mquake import load_mquake
from seqedit.cases.ripple import load_ripple
from seqedit.demo.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return demo.world()


@pytest.fixture(scope="module")
def mquake(world: World) -> list[dict[str, Any]]:
    return demo.mquake_cases(world)


@pytest.fixture(scope="module")
def ripple(world: World) -> list[dict[str, Any]]:
    return demo.ripple_cases(world)


def written(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def test_mquake_records_have_the_published_fields(mquake: list[dict[str, Any]]) -> None:
    for row in mquake:
        assert set(row) == {
            "case_id", "requested_rewrite", "questions", "answer", "answer_alias", "new_answer", "new_answer_alias",
            "single_hops", "new_single_hops", "orig",
        }  # fmt: skip
        assert set(row["orig"]) == {
            "triples", "triples_labeled", "new_triples", "new_triples_labeled", "edit_triples",
        }  # fmt: skip
        for rewrite in row["requested_rewrite"]:
            assert set(rewrite) == {"prompt", "relation_id", "target_new", "target_true", "subject", "question"}
        assert len(set(row["questions"])) == 3
        assert 1 <= len(row["requested_rewrite"]) <= 2


def test_mquake_chains_connect_and_are_true_before_and_follow_from_the_edits_after(
    world: World, mquake: list[dict[str, Any]]
) -> None:
    truth = {(f.subject, f.relation.name): f.object for f in world.facts}
    names = {f.relation.id: f.relation.name for f in world.facts}
    for row in mquake:
        changed = {(r["subject"], names[r["relation_id"]]): r["target_new"]["str"] for r in row["requested_rewrite"]}
        assert not set(changed.items()) & set(truth.items())
        for chain, facts, hops, answer in (
            ("triples", truth, "single_hops", "answer"),
            ("new_triples", truth | changed, "new_single_hops", "new_answer"),
        ):
            (s, r1, bridge), (again, r2, end) = row["orig"][f"{chain}_labeled"]
            assert bridge == again
            assert row["orig"][chain][0][2] == row["orig"][chain][1][0]
            assert (facts[s, r1], facts[bridge, r2]) == (bridge, end)
            assert [hop["answer"] for hop in row[hops]] == [bridge, end]
            assert row[answer] == end
        assert row["answer"] != row["new_answer"]
        assert all(row["orig"]["triples_labeled"][0][0] in question for question in row["questions"])


def test_all_mquake_cases_can_be_edited_together(tmp_path: Path, mquake: list[dict[str, Any]]) -> None:
    cases = load_mquake(written(tmp_path, mquake))
    requests = joint_requests((str(case.case_id), case.requests) for case in cases)
    assert len(cases) == 240
    assert len({request.fact for request in requests}) == len(requests) < sum(len(c.requests) for c in cases)
    assert disturbed(cases, lambda case: str(case.case_id)) == []
    first_edited = sum(c.requests[0].text == c.new_hops[0].cloze for c in cases)
    assert first_edited == 160
    assert sum(len(c.requests) == 2 for c in cases) == 80


def test_ripple_edits_are_told_from_their_statements(
    world: World, tmp_path: Path, ripple: list[dict[str, Any]]
) -> None:
    truth = {(f.subject, f.relation.name.upper().replace(" ", "_")): f.object for f in world.facts}
    cases = load_ripple(written(tmp_path, ripple))
    for case, row in zip(cases, ripple, strict=True):
        request = case.request
        assert truth[request.subject, str(request.relation)] == request.target_true
        assert f"{request.text} {request.target_new}." == row["edit"]["prompt"]
    assert len({case.request.subject for case in cases}) == len(cases) == 136
    assert all(sum(len(case.tests[name]) for case in cases) >= 30 for name in CRITERIA)
    assert len(joint_requests((c.request.subject, [c.request]) for c in cases)) == len(cases)


def test_no_ripple_test_rests_on_what_another_case_changes(ripple: list[dict[str, Any]]) -> None:
    edited = {(row["edit"]["subject_id"], row["edit"]["relation"]): row for row in ripple}
    for row in ripple:
        for criterion in CRITERIA:
            for test in row[criterion]:
                for query in test["condition_queries"]:
                    other = edited.get((query["subject_id"], query["relation"]), row)
                    assert other is row


def test_ripple_conditions_are_true_of_the_world(world: World, ripple: list[dict[str, Any]]) -> None:
    said = {(p.format(f.subject), f.object) for f in world.facts for p in f.relation.phrasings}
    for row in ripple:
        for criterion in ("Relation_Specificity", "Compositionality_I", "Compositionality_II"):
            for test in row[criterion]:
                for query in test["condition_queries"]:
                    assert (query["prompt"], query["answers"][0]["value"]) in said
        for test in row["Logical_Generalization"]:
            assert test["test_queries"][0]["target_ids"] == [row["edit"]["target_id"]]


def test_equal_seeds_give_equal_records(
    world: World, mquake: list[dict[str, Any]], ripple: list[dict[str, Any]]
) -> None:
    assert demo.mquake_cases(demo.world()) == mquake
    assert demo.ripple_cases(demo.world()) == ripple
    assert demo.mquake_cases(demo.world(7)) != mquake
