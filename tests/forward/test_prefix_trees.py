"""Sequences in one row are computed as if each stood alone, and no prefix more often than a row must repeat it."""

from __future__ import annotations

import copy
import itertools
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evals.likelihood.teacher_forcing import score_continuations
from seqedit.forward.prefix_trees import WIDTH, forward_arguments, pack, pack_width, takes_trees
from tests.models.architectures import EDITED, build

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), max_size=14)


@given(SEQUENCES, st.integers(0, 40))
def test_every_sequence_is_a_path_of_its_row(items: list[tuple[int, ...]], width: int) -> None:
    packed = pack(items, width)
    for item, number, nodes in zip(items, packed.row_of, packed.nodes, strict=True):
        row = packed.rows[number]
        assert tuple(row.ids[node] for node in nodes) == item
        assert [row.depth[node] for node in nodes] == list(range(len(item)))
        for ancestor, node in itertools.pairwise(nodes):
            assert ancestor < node < row.end[ancestor]


@given(SEQUENCES, st.integers(0, 40))
def test_the_mask_shows_each_node_its_ancestors_and_itself(items: list[tuple[int, ...]], width: int) -> None:
    packed = pack(items, width)
    if not items:
        assert packed.rows == []
        return
    arguments = forward_arguments(packed.rows, torch.device("cpu"), torch.float32)
    if "position_ids" not in arguments:
        return
    for number, nodes in zip(packed.row_of, packed.nodes, strict=True):
        seen = (arguments["attention_mask"][number, 0, nodes[-1]] == 0).nonzero().flatten().tolist()
        assert seen == list(nodes)
    assert bool((arguments["attention_mask"] == 0).any(-1).all()), "a softmax over nothing"


@given(SEQUENCES)
def test_wide_rows_hold_every_prefix_once(items: list[tuple[int, ...]]) -> None:
    packed = pack(items, 10_000)
    nodes = sum(len(row.ids) for row in packed.rows)
    assert nodes == len({item[:k] for item in items for k in range(1, len(item) + 1)})


@given(SEQUENCES)
def test_without_width_every_row_is_one_sequence_and_none_begins_another(items: list[tuple[int, ...]]) -> None:
    packed = pack(items, 0)
    rows = [tuple(row.ids) for row in packed.rows]
    assert set(rows) <= set(items)
    assert not any(a[: len(b)] == b for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j)


def test_what_is_long_and_shared_is_not_repeated_for_being_over_the_width() -> None:
    document = tuple(range(100))
    packed = pack([(*document, 500 + i, 600 + i) for i in range(20)], 100)
    assert sum(len(row.ids) for row in packed.rows) == 140
    assert len(packed.rows) == 1


@pytest.mark.parametrize("family", EDITED)
def test_packed_scores_are_those_of_single_rows_on_every_family(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(family)
    generator = random.Random(0)
    stems = [[generator.randrange(2048) for _ in range(generator.randrange(2, 8))] for _ in range(4)]
    pairs = [
        (
            stem + [generator.randrange(2048)] * generator.randrange(3),
            [generator.randrange(2048) for _ in range(length)],
        )
        for stem in stems
        for length in (1, 1, 2, 4)
    ]
    found = score_continuations(model, pairs)
    monkeypatch.setattr("seqedit.forward.prefix_trees.takes_trees", lambda model: False)
    plain = score_continuations(model, pairs)
    assert [c.nll for c in found] == pytest.approx([c.nll for c in plain], rel=1e-4, abs=1e-3)
    assert [c.correct for c in found] == [c.correct for c in plain]


def test_which_families_take_trees() -> None:
    takes = {family: takes_trees(build(family)) for family in EDITED}
    # ALiBi is made from a padding mask, and a recurrent state or a convolution runs along a row whatever its mask
    # says: such models keep to one sequence a row. All others share prefixes.
    assert {family for family, able in takes.items() if not able} == {
        "Falcon, sequential, ALiBi", "BLOOM", "MPT", "Qwen3.5, text", "Qwen3-Next", "LFM2", "LFM2-MoE",
        "Granite 4 (hybrid)", "ModernBERT decoder", "Falcon-H1", "Jamba", "Bamba", "Nemotron-H", "RecurrentGemma",
        "RWKV",
    }  # fmt: skip


def test_a_model_that_ignores_positions_is_given_one_sequence_a_row() -> None:
    model = copy.deepcopy(build("Llama"))
    assert pack_width(model, [(1, 2, 3)]) == WIDTH
    forward = model.forward

    def without_positions(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    model.forward = without_positions
    assert pack_width(model, [(1, 2, 3)]) == 0


def test_sequences_longer_than_the_attention_window_are_not_packed() -> None:
    model = build("Mistral, sliding window")
    assert pack_width(model, [tuple(range(12))]) > 0
    assert pack_width(model, [tuple(range(13))]) == 0
