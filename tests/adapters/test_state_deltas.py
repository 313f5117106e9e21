"""A state's deltas as one: what is exact, what is rounding, and what a truncation costs."""

from __future__ import annotations

import pytest
import torch

from seqedit.adapters.adapter import Adapter
from seqedit.adapters.composition import compose
from seqedit.adapters.delta import Dense, LowRank
from seqedit.adapters.sums import compact, concatenate, truncate
from seqedit.errors import InputError
from tests.ledger.helpers import build_adapter, build_base


def low_rank(rank: int, rows: int = 40, columns: int = 60, seed: int = 0) -> LowRank:
    random = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(rows, rank, generator=random), torch.randn(rank, columns, generator=random))


def one(delta: LowRank | Dense) -> Adapter:
    base = build_adapter(0)
    return Adapter({"m": delta}, base.requests, base.method, base.base_model)


def test_factors_are_concatenated_bit_for_bit_and_compose_to_the_same_weights() -> None:
    adapters = [build_adapter(seed) for seed in range(2)]
    base = build_base()
    deltas = concatenate(adapters)
    for name, delta in deltas.items():
        assert isinstance(delta, LowRank)
        assert torch.equal(delta.B, torch.cat([a.deltas[name].B for a in adapters], dim=1))  # type: ignore[union-attr]
        assert torch.equal(delta.A, torch.cat([a.deltas[name].A for a in adapters], dim=0))  # type: ignore[union-attr]
    source = build_adapter(0)
    whole = Adapter(deltas, source.requests, source.method, source.base_model)
    expected, found = compose(base, adapters), compose(base, [whole])
    assert all(torch.equal(expected[name], found[name]) for name in base)


def test_a_total_rank_above_the_matrix_becomes_dense_and_stays_exact_to_rounding() -> None:
    adapters = [build_adapter(seed) for seed in range(9)]  # 18 columns for 5 rows
    deltas = concatenate(adapters)
    for name, delta in deltas.items():
        assert isinstance(delta, Dense)
        exact = sum(a.deltas[name].dense() for a in adapters)
        assert isinstance(exact, torch.Tensor)
        assert float((delta.dense() - exact).norm() / exact.norm()) < 1e-7


def test_one_dense_delta_makes_its_module_dense() -> None:
    deltas = concatenate([one(low_rank(2)), one(Dense(torch.ones(40, 60))), one(low_rank(3, seed=1))])
    assert isinstance(deltas["m"], Dense)
    exact = low_rank(2).dense() + 1 + low_rank(3, seed=1).dense()
    assert float((deltas["m"].dense() - exact).norm() / exact.norm()) < 1e-7


def test_columns_that_repeat_a_direction_are_compacted_without_loss() -> None:
    first, second = low_rank(3), low_rank(3, seed=1)
    same_keys = LowRank(second.B, first.A)  # the same keys edited again
    deltas = concatenate([one(first), one(same_keys), one(low_rank(2, seed=2))])
    assert deltas["m"].rank == 5
    exact = first.dense() + same_keys.dense() + low_rank(2, seed=2).dense()
    assert float((deltas["m"].dense() - exact).norm() / exact.norm()) < 2e-7


def test_a_delta_without_repeated_directions_is_left_as_it_is() -> None:
    delta = low_rank(4)
    assert compact(delta) is delta


def test_edits_that_cancel_leave_a_zero_of_rank_one() -> None:
    delta = low_rank(2)
    total = concatenate([one(delta), one(LowRank(-delta.B, delta.A))])["m"]
    assert total.rank == 1
    assert float(total.dense().norm()) < 1e-12 * float(delta.dense().norm())


@pytest.mark.parametrize("kind", ["factors", "dense"])
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_a_truncation_is_the_nearest_of_its_rank_and_its_error_is_measured(kind: str, rank: int) -> None:
    delta: LowRank | Dense = low_rank(8)
    if kind == "dense":
        delta = Dense(delta.dense().float())
    values = torch.linalg.svdvals(delta.dense())
    nearest = float(values[rank:].norm() / values.norm())
    found, error = truncate(delta, rank)
    assert found.rank == rank
    assert error == pytest.approx(nearest, rel=1e-6)
    assert float((found.dense() - delta.dense()).norm() / values.norm()) == pytest.approx(nearest, rel=1e-5)


def test_a_rank_that_is_high_enough_loses_nothing() -> None:
    delta, dense = low_rank(4), Dense(torch.ones(40, 60))
    assert truncate(delta, 4) == (delta, 0.0)
    assert truncate(dense, 40)[0] is dense


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        truncate(low_rank(2), 0)
