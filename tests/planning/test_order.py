"""Clustered batches: near keys together, never worse than the file's order, the same every time."""

from __future__ import annotations

import pytest
import torch

from seqedit.facts.requests import Request, check_batch
from seqedit.planning.order import clustered, in_file_order, later, summary


def _requests(count: int) -> list[Request]:
    return [Request(f"Subject {i}", "{} lives in", f"Town {i}") for i in range(count)]


def _cosines(keys: torch.Tensor) -> torch.Tensor:
    keys = torch.nn.functional.normalize(keys.double(), dim=1)
    return keys @ keys.T


def test_near_keys_that_the_file_pulls_apart_share_a_batch() -> None:
    centres = torch.eye(4, 32)
    keys = torch.stack([centres[i % 4] + 0.05 * torch.eye(32)[8 + i] for i in range(16)])
    cosines = _cosines(keys)
    batches = clustered(_requests(16), cosines, 4)
    assert {frozenset(batch) for batch in batches} == {frozenset(range(c, 16, 4)) for c in range(4)}
    assert summary(cosines, batches).largest < 0.01 < 0.9 < summary(cosines, in_file_order(16, 4)).largest


@pytest.mark.parametrize("count", [1, 7, 16, 33])
@pytest.mark.parametrize("size", [1, 4, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_clustered_order_is_whole_full_and_never_worse(count: int, size: int, seed: int) -> None:
    keys = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    cosines, plain = _cosines(keys), in_file_order(count, size)
    batches = clustered(_requests(count), cosines, size, seed=seed)
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    assert [len(batch) for batch in batches] == [len(batch) for batch in plain]
    new, old = summary(cosines, batches), summary(cosines, plain)
    assert (new.largest, new.mean) <= (old.largest, old.mean)
    assert batches == clustered(_requests(count), cosines, size, seed=seed)


def test_the_seed_decides_ties_and_nothing_else() -> None:
    cosines = torch.full((8, 8), 0.5).double().fill_diagonal_(1)
    cosines[0, 4] = cosines[4, 0] = 0.9
    found = [clustered(_requests(8), cosines, 2, seed=seed) for seed in range(6)]
    assert all(any({0, 4} == set(batch) for batch in batches) for batches in found)
    assert len({str(batches) for batches in found}) > 1


def test_a_fact_that_is_said_twice_keeps_its_order() -> None:
    requests = _requests(12)
    requests[9] = Request("Subject 1", "{} lives in", "Elsewhere")
    requests[10] = Request("Subject 2", "{} lives in", "Elsewhere")
    keys = torch.randn(12, 4, generator=torch.Generator().manual_seed(3))
    keys[9], keys[10] = keys[1], keys[2]
    keys[4], keys[5] = keys[0] + 0.01, keys[1] + 0.01
    batches = clustered(requests, _cosines(keys), 4)
    place = {i: number for number, batch in enumerate(batches) for i in batch}
    assert place[1] < place[9]
    assert place[2] < place[10]
    for batch in batches:
        check_batch([requests[i] for i in batch])


def test_the_cosine_to_later_keys_is_that_of_later_batches_alone() -> None:
    cosines = torch.tensor([[1, 0.9, 0.25, 0.5], [0.9, 1, 0, 0.375], [0.25, 0, 1, 0.8], [0.5, 0.375, 0.8, 1]])
    values, whose = later(cosines, [[0, 1], [2, 3]])
    assert values == [0.5, 0.375, None, None]
    assert whose == [3, 3, None, None]
    found = summary(cosines, [[0, 1], [2, 3]])
    assert found.largest == 0.5
    assert found.mean == pytest.approx(0.875 / 4)
