"""Mixing decoys into an update: equal at the keys, of the same rank, the published update, and nobody stands out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from seqedit.adapters.delta import Dense, LowRank
from seqedit.errors import InputError
from seqedit.leakage.audit import separation
from seqedit.leakage.shares import row_factor, shares
from seqedit.shipping.mixing import mix

D_IN, D_OUT, N = 120, 40, 4


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class World:
    """A second moment, edited keys that are drawn from it, and MEMIT's update at them."""

    def __init__(self, *, n: int = N) -> None:
        root = random(D_IN, D_IN, seed=1) / D_IN**0.5
        self.C0 = root @ root.T + 0.1 * torch.eye(D_IN)
        self.factor = torch.linalg.cholesky(self.C0)
        self.inverse = torch.linalg.inv(self.C0)
        self.keys = self.draw(n, seed=2)
        K, R = self.keys.T, random(D_OUT, n, seed=3)
        self.delta = R @ K.T @ torch.linalg.inv(20 * self.C0 + K @ K.T)
        left, sizes, right = torch.linalg.svd(self.delta)
        self.update = LowRank.from_factors(left[:, :n] * sizes[:n], right[:n])

    def draw(self, *count: int, seed: int) -> Tensor:
        """Keys of the second moment C0."""
        return random(*count, D_IN, seed=seed) @ self.factor.T

    def shares(self, delta: LowRank | Dense, keys: Tensor) -> np.ndarray:
        return shares(keys, row_factor(delta), self.C0, lambda k: self.inverse @ k).numpy()


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("strength", [1.0, 5.0])
def test_nothing_changes_at_the_keys_and_the_rank_does_not_grow(world: World, dense: bool, strength: float) -> None:
    own = world.keys + 0.1 * world.draw(N, seed=4)
    update = Dense(world.update.dense().float()) if dense else world.update
    mixed = mix(update, world.keys.float(), own, world.draw(N, 3, seed=5), world.factor, strength)
    assert type(mixed.delta) is type(update)
    for keys in (world.keys, own):
        before, after = (one.dense() @ keys.T for one in (update, mixed.delta))
        assert float((after - before).norm(dim=0).max() / before.norm(dim=0).max()) < 1e-5
    assert mixed.change < 1e-5
    assert mixed.unmixed < 1e-5
    assert len(row_factor(mixed.delta)) == len(row_factor(update)) == N
    assert float((mixed.delta.dense() - update.dense()).norm()) > 0.5 * float(update.dense().norm())


def test_the_update_is_the_published_one_for_decoys_that_are_orthogonal_to_the_keys(world: World) -> None:
    decoys = world.draw(N, 1, seed=6)
    mixed = mix(world.update, world.keys, world.keys[:0], decoys, world.factor, 3.0)
    K, M = world.keys.T, world.inverse
    away = decoys[:, 0].T - K @ torch.linalg.inv(K.T @ M @ K) @ K.T @ M @ decoys[:, 0].T
    lengths = [(part * (M @ part)).sum(0).sqrt() for part in (K, away)]
    among = K + 3.0 * away * lengths[0] / lengths[1]
    published = world.update.dense() @ K @ torch.linalg.inv(among.T @ M @ K) @ among.T @ M
    torch.testing.assert_close(mixed.delta.dense(), published, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("count", "strength"), [(1, 1.0), (4, 2.0), (1, 5.0)])
def test_growth_is_the_squared_output_on_keys_of_plain_text(world: World, count: int, strength: float) -> None:
    mixed = mix(world.update, world.keys, world.keys[:0], world.draw(N, count, seed=7), world.factor, strength)
    sizes = [float((one.dense() @ world.C0 @ one.dense().T).trace()) for one in (world.update, mixed.delta)]
    assert mixed.growth == pytest.approx(sizes[1] / sizes[0], rel=1e-4)
    assert mixed.growth == pytest.approx(1 + strength**2, rel=0.3)


def test_edited_subjects_no_longer_stand_out_above_their_decoys(world: World) -> None:
    decoys, others = world.draw(N, 4, seed=8), world.draw(400, seed=9)
    mixed = mix(world.update, world.keys, world.keys[:0], decoys, world.factor, 2.0)
    flat = decoys.flatten(0, 1)
    before, after = (
        [world.shares(one, keys) for keys in (world.keys, flat, others)] for one in (world.update, mixed.delta)
    )
    assert before[0].min() > 0.999
    assert after[0].max() < 0.4  # 1 / (1 + 2^2) in the mean, and what the keys have in common
    assert np.median(after[1]) > 0.8 * np.median(after[0])
    truth = np.arange(N + len(flat)) < N
    assert separation(np.concatenate(after[:2]), truth).auc < 0.8
    assert separation(np.concatenate(before[:2]), truth).auc == 1.0


def test_what_no_key_explains_stays_as_it_was_and_is_told(world: World) -> None:
    B = torch.cat([world.update.B, world.update.B[:, :1]], 1)
    away = world.draw(1, seed=10) @ world.inverse
    A = torch.cat([world.update.A, away.float()])
    mixed = mix(LowRank(B, A), world.keys, world.keys[:0], world.draw(N, 2, seed=11), world.factor, 1.4)
    assert 0.05 < mixed.unmixed < 1
    assert mixed.change < 1e-5
    assert world.shares(mixed.delta, away @ world.C0).min() > 0.5


def test_a_key_that_was_written_twice_is_hidden_once(world: World) -> None:
    twice = torch.cat([world.keys, world.keys[:1] * (1 + 1e-7)])
    mixed = mix(world.update, twice, world.keys[:0], world.draw(N + 1, 2, seed=12), world.factor, 1.4)
    assert mixed.change < 1e-5
    assert mixed.growth < 10
    assert world.shares(mixed.delta, world.keys).max() < 0.7


def test_more_keys_than_there_is_room_for_are_refused() -> None:
    world = World(n=30)
    with pytest.raises(InputError, match="of 120 directions that leaves too few for decoys"):
        mix(world.update, world.keys, world.draw(70, seed=13), world.draw(30, 1, seed=14), world.factor, 1.0)
