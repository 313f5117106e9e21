"""Who does what, and which process this is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.parallel.place import Place
from seqedit.support.shares import WHOLE, ProcessShare


@given(st.lists(st.floats(0, 1e6), max_size=50), st.integers(1, 9))
def test_shares_hold_every_item_once_and_are_even(costs: list[float], size: int) -> None:
    shares = [ProcessShare(rank, size).pick(costs) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == list(range(len(costs)))
    loads = [sum(costs[item] for item in share) for share in shares]
    # Whoever has most had least before its last item: the bound of the greedy rule.
    assert max(loads) <= sum(costs) / size + max(costs, default=0) + 1e-6


def test_one_process_has_everything_in_order() -> None:
    assert WHOLE.pick([1, 5, 2]) == [0, 1, 2]


@pytest.mark.parametrize(("rank", "size"), [(-1, 1), (1, 1), (0, 0)])
def test_a_rank_outside_its_group_is_refused(rank: int, size: int) -> None:
    with pytest.raises(ValueError, match="rank"):
        ProcessShare(rank, size)


PLACE = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a",
         "MASTER_PORT": "1"}  # fmt: skip


def test_the_place_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACE:
        monkeypatch.delenv(name, raising=False)
    assert Place.from_environment() == Place()
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    assert Place.from_environment() == Place(1, 4, 1, 2)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Place.from_environment() == Place()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("RANK", "4", "RANK is 4"), ("RANK", "one", "RANK is 'one'"), ("RANK", None, "RANK is None"),
     ("MASTER_ADDR", None, "MASTER_ADDR is not set"), ("WORLD_SIZE", "many", "WORLD_SIZE is 'many'")],
)  # fmt: skip
def test_an_environment_that_names_no_place_is_refused(
    name: str, value: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known, usual in PLACE.items():
        monkeypatch.setenv(known, usual)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentFailure, match=message):
        Place.from_environment()


def test_every_process_of_a_machine_gets_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    second = Place(rank=3, size=4, local_rank=1, local_size=2)
    assert [second.device(wanted) for wanted in (None, "cuda", "cpu", "cuda:0")] == [
        "cuda:1",
        "cuda:1",
        "cpu",
        "cuda:0",
    ]
    assert Place().device(None) is None
    assert Place().device("auto") == "auto"
    assert Place(size=2).device("auto") == "auto"  # one process on each of two machines
    with pytest.raises(InputError, match="one process per machine"):
        second.device("auto")
    with pytest.raises(InputError, match="sees 2 GPUs"):
        Place(rank=2, size=3, local_rank=2, local_size=3).device(None)


def test_without_gpus_all_are_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Place(rank=1, size=2, local_rank=1, local_size=2).device(None) is None
