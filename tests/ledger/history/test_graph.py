from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.history import graph
from seqedit.errors import InputError


@dataclass(frozen=True)
class Node:
    id: str
    operation: str = "edit"
    parents: tuple[str, ...] = ()
    adapter: str | None = None
    targets: tuple[str, ...] = ()


def root() -> list[Node]:
    return [Node("root", "root")]


def edit(history: list[Node], name: str) -> list[Node]:
    return [*history, Node(name, "edit", (history[-1].id,), f"adapter of {name}")]


def revert(history: list[Node], target: str) -> list[Node]:
    node = Node(f"r{len(history)}", "revert", (history[-1].id,), None, (target,))
    graph.check_next(history, node)
    return [*history, node]


def names(history: list[Node]) -> list[str]:
    return [node.id for node in graph.active(history)]


def edits(*labels: str) -> list[Node]:
    history = root()
    for label in labels:
        history = edit(history, label)
    return history


class TestRevert:
    def test_the_reverted_edit_is_not_active_and_the_order_of_the_others_stays(self):
        assert names(revert(edits("a", "b", "c"), "b")) == ["a", "c"]

    def test_reverting_the_revert_restores_the_edit_at_its_own_place(self):
        history = revert(edits("a", "b", "c"), "b")
        assert names(revert(history, history[-1].id)) == ["a", "b", "c"]

    def test_reverting_the_revert_of_a_revert_takes_the_edit_out_again(self):
        history = revert(edits("a"), "a")
        history = revert(history, history[-1].id)
        assert names(revert(history, history[-1].id)) == []

    def test_the_root_cannot_be_reverted(self):
        with pytest.raises(InputError, match="the root, the unedited model"):
            revert(edits("a"), "root")

    def test_what_is_reverted_already_is_refused_with_the_entry_that_did_it(self):
        history = revert(edits("a"), "a")
        with pytest.raises(InputError, match=r"entry a is not in force: r2 \(revert\) took it out"):
            revert(history, "a")

    def test_an_entry_outside_the_history_is_refused(self):
        with pytest.raises(InputError, match="not in the history"):
            revert(edits("a"), "elsewhere")

    def test_a_revert_without_effect_is_refused(self):
        history = revert(edits("a"), "a")  # r2
        history = revert(history, "r2")  # r3 brings a back
        history = revert(history, "a")  # r4 takes it out again
        with pytest.raises(InputError, match="would change nothing"):
            revert(history, "r3")


def test_an_active_adapter_is_refused_a_second_time_and_taken_again_after_a_revert():
    history = edits("a")
    again = Node("a2", "edit", ("a",), "adapter of a")
    with pytest.raises(InputError, match="already active as entry a"):
        graph.check_next(history, again)
    graph.check_next(revert(history, "a"), again)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=30))
def test_graph_laws_hold_for_random_histories(choices):
    """Edits and reverts at random against a model that replays: rebuilt from the root, reverts as a set difference."""
    history = root()
    for choice in choices:
        target = history[choice % len(history)].id
        before = names(history)
        if choice % 3 == 0 or target == "root":
            history = edit(history, f"e{len(history)}")
            assert names(history) == [*before, history[-1].id]
            continue
        try:
            history = revert(history, target)
        except InputError:
            continue
        after = names(history)
        assert len(set(before) ^ set(after)) == 1, "a revert changes exactly one adapter"
        undone = [*history, Node("undo", "revert", (history[-1].id,), None, (history[-1].id,))]
        assert names(undone) == before, "reverting the revert is exact"
    order = [node.id for node in history]
    assert names(history) == sorted(names(history), key=order.index), "active adapters keep the order of the history"
    assert not graph.check_history(history)


class TestHistory:
    def test_it_runs_from_the_root_to_the_head(self):
        nodes = {node.id: node for node in edits("a", "b", "c")}
        assert [n.id for n in graph.first_parent_history(nodes, "b")] == ["root", "a", "b"]

    def test_a_missing_parent_is_named(self):
        nodes = {node.id: node for node in edits("a", "b") if node.id != "a"}
        with pytest.raises(InputError, match="entry a in the history of b is missing"):
            graph.first_parent_history(nodes, "b")

    def test_a_circle_ends_with_an_error(self):
        nodes = {"a": Node("a", parents=("b",)), "b": Node("b", parents=("a",))}
        with pytest.raises(InputError, match="circle"):
            graph.first_parent_history(nodes, "a")

    def test_a_second_root_and_a_later_target_are_problems(self):
        history = [*edits("a"), Node("x", "root"), Node("r", "revert", ("x",), None, ("later",))]
        assert [identifier for identifier, _ in graph.check_history(history)] == ["x", "r"]


class TestLiveFacts:
    def test_a_later_request_for_the_same_fact_supersedes_the_earlier(self):
        old, other = ("Rome", "P36"), ("Rome", "P17")
        assert graph.live_facts([("a", [old, other]), ("b", [old])]) == {"a": (1,), "b": (0,)}

    def test_an_entry_whose_facts_are_all_superseded_stays_listed(self):
        assert graph.live_facts([("a", [("s", "r")]), ("b", [("s", "r")])]) == {"a": (), "b": (0,)}


def replace(history: list[Node], operation: str, *targets: str, others: int = 0) -> list[Node]:
    name = f"{operation}{len(history)}"
    parents = (history[-1].id, *(f"foreign{i}" for i in range(others)))
    node = Node(name, operation, parents, f"adapter of {name}", targets)
    graph.OPERATIONS[operation].check(operation, node.parents, node.adapter, node.targets)
    graph.check_next(history, node)
    return [*history, node]


class TestReplacing:
    def test_a_swap_takes_the_place_of_its_target(self):
        assert names(replace(edits("a", "b", "c"), "swap", "b")) == ["a", "swap4", "c"]

    def test_a_swap_of_a_swap_stays_at_the_first_place(self):
        history = replace(edits("a", "b", "c"), "swap", "a")
        assert names(replace(history, "swap", "swap4")) == ["swap5", "b", "c"]

    def test_reverting_the_second_swap_brings_the_first_back_not_the_original(self):
        history = replace(replace(edits("a", "b"), "swap", "a"), "swap", "swap3")
        assert names(revert(history, "swap4")) == ["swap3", "b"]

    def test_a_revert_of_a_swapped_swap_names_the_swap_in_force(self):
        history = replace(replace(edits("a", "b"), "swap", "a"), "swap", "swap3")
        with pytest.raises(InputError, match="swap4"):
            revert(history, "a")

    def test_reverting_a_swap_brings_the_original_back_in_place(self):
        assert names(revert(replace(edits("a", "b", "c"), "swap", "b"), "swap4")) == ["a", "b", "c"]

    def test_a_merge_takes_the_place_of_its_last_target(self):
        assert names(replace(edits("a", "b", "c", "d"), "merge", "c", "a")) == ["b", "merge5", "d"]

    def test_reverting_a_merge_brings_all_its_targets_back(self):
        history = replace(edits("a", "b", "c", "d"), "merge", "a", "c")
        assert names(revert(history, "merge5")) == ["a", "b", "c", "d"]

    def test_a_merge_of_other_branches_only_comes_last(self):
        assert names(replace(edits("a", "b"), "merge", others=2)) == ["a", "b", "merge3"]

    def test_an_entry_that_is_swapped_out_cannot_be_swapped_again_and_the_error_names_the_swap(self):
        with pytest.raises(InputError, match="swap3"):
            replace(replace(edits("a", "b"), "swap", "a"), "swap", "a")

    def test_a_revert_has_no_adapter_to_replace(self):
        history = revert(edits("a", "b"), "a")
        with pytest.raises(InputError, match="adds no adapter"):
            replace(history, "swap", history[-1].id)

    def test_a_merge_needs_two_entries_and_names_each_once(self):
        with pytest.raises(InputError, match="at least two"):
            replace(edits("a", "b"), "merge", "a")
        with pytest.raises(InputError, match="once only"):
            replace(edits("a", "b"), "merge", "a", "a")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_sequence_of_operations_is_undone_by_reverting_it_newest_first(data):
    history = edits("a", "b", "c", "d")
    for _ in range(data.draw(st.integers(1, 5))):
        there = names(history)
        kind = data.draw(st.sampled_from(["swap", "merge", "revert"]))
        if not there or (kind == "merge" and len(there) < 2):
            continue
        if kind == "revert":
            history = revert(history, data.draw(st.sampled_from(there)))
        else:
            count = 1 if kind == "swap" else data.draw(st.integers(2, len(there)))
            history = replace(history, kind, *data.draw(st.permutations(there))[:count])
    for node in reversed(history[5:]):
        history = revert(history, node.id)
    assert names(history) == ["a", "b", "c", "d"]
