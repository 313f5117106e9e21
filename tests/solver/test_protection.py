"""Factorizations over a run: what is kept and extended equals what is made anew; memory is bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from seqedit.errors import NumericsError
from seqedit.models.anatomy import Projection
from seqedit.moments.second_moments import SecondMoments
from seqedit.solver import factorizations
from seqedit.solver.factorizations import Factorizations
from seqedit.solver.preconditioners import CholeskyPreconditioner, NullSpacePreconditioner, protect
from seqedit.solver.protected_keys import ProtectedKeys
from seqedit.support.cholesky import cholesky, cholesky_, factored_solve

D_IN = 24


def second_moment(seed: int = 0, size: int = D_IN) -> Tensor:
    root = torch.randn(size, 3 * size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.T / (3 * size) + 0.05 * torch.eye(size, dtype=torch.float64)


def random_keys(count: int, seed: int) -> Tensor:
    return torch.randn(count, D_IN, generator=torch.Generator().manual_seed(seed))


@dataclass
class Counting:
    """Counts the columns that were solved."""

    inner: Any
    columns: int = 0

    @property
    def order(self) -> int:
        return int(self.inner.order)

    def __call__(self, K: Tensor) -> Tensor:
        self.columns += K.shape[1]
        return self.inner(K)

    def with_keys(self, keys: Tensor) -> Any:
        return self.inner.with_keys(keys)

    def product(self, X: Tensor) -> Any:
        return self.inner.product(X)

    def confined(self, kept: Any) -> Any:
        return self.inner.confined(kept)


def inverse(kind: str, keys: Tensor) -> Tensor:
    """What a preconditioner with these keys multiplies by, from its definition."""
    gram = keys.double().T @ keys.double()
    if kind == "cholesky":
        return torch.linalg.inv(second_moment() + gram)
    basis = torch.linalg.eigh(second_moment())[1][:, : D_IN // 2]
    inside = basis.T @ gram @ basis + 3.0 * torch.eye(D_IN // 2, dtype=torch.float64)
    return basis @ torch.linalg.inv(inside) @ basis.T


def preconditioner_of(kind: str) -> Any:
    if kind == "cholesky":
        return CholeskyPreconditioner(cholesky(second_moment()))
    return NullSpacePreconditioner(torch.linalg.eigh(second_moment())[1][:, : D_IN // 2], 3.0)


edits = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 30)),
        st.tuples(st.just("revert last"), st.integers(1, 10)),
        st.tuples(st.just("revert"), st.integers(0, 40)),
        st.tuples(st.just("reorder"), st.integers(0, 1000)),
        st.tuples(st.just("same"), st.just(0)),
    ),
    max_size=8,
)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(["cholesky", "null space"]), edits)
def test_whatever_becomes_of_the_list_the_result_is_that_of_starting_again(
    kind: str, steps: list[tuple[str, int]]
) -> None:
    held = ProtectedKeys(preconditioner_of(kind))
    keys = torch.empty(0, D_IN)
    K = random_keys(5, 99).double().T
    for number, (what, amount) in enumerate(steps):
        if what == "add":
            keys = torch.cat([keys, random_keys(amount, number)])
        elif what == "revert last":
            keys = keys[: max(0, len(keys) - amount)]
        elif what == "revert":
            keys = torch.cat([keys[:amount], keys[amount + 1 :]])
        elif what == "reorder":
            keys = keys[torch.randperm(len(keys), generator=torch.Generator().manual_seed(amount))]
        found = held.protect(keys)(K)
        expected = inverse(kind, keys) @ K
        assert float((found - expected).norm()) <= 1e-9 * float(expected.norm())
        fresh = protect(preconditioner_of(kind), keys.double().T)(K)
        assert float((found - fresh).norm()) <= 1e-9 * float(expected.norm())


def test_only_keys_that_are_new_are_solved() -> None:
    inner = Counting(preconditioner_of("cholesky"))
    held = ProtectedKeys(inner)
    keys = random_keys(20, 1)
    for count, solved in ((8, 8), (12, 4), (12, 0), (9, 0), (20, 11)):
        before = inner.columns
        held.protect(keys[:count])
        assert inner.columns - before == solved
    changed = keys.clone()
    changed[15] += 1
    before = inner.columns
    held.protect(changed)
    assert inner.columns - before == 5, "15 keys in front of the changed one are as they were"


def test_a_callers_tensor_may_change_between_calls() -> None:
    held = ProtectedKeys(preconditioner_of("cholesky"))
    keys = random_keys(6, 1)
    held.protect(keys)
    keys[2] += 1
    K = random_keys(3, 5).double().T
    torch.testing.assert_close(held.protect(keys)(K), inverse("cholesky", keys) @ K, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["cholesky", "null space"])
def test_more_keys_than_rows_are_folded_into_the_system_and_what_is_held_stays_bounded(kind: str) -> None:
    inner = preconditioner_of(kind)
    held = ProtectedKeys(inner)
    keys = random_keys(400, 3)
    K = random_keys(5, 99).double().T
    for count in range(10, 401, 10):
        found = held.protect(keys[:count])(K)
        assert len(held._factor) <= inner.order
        assert len(held._solved) <= inner.order
        expected = inverse(kind, keys[:count]) @ K
        assert float((found - expected).norm()) <= 1e-9 * float(expected.norm())
    following = random_keys(50, 8)
    nested = protect(held.protect(keys[:399]), following.double().T)(K)
    expected = inverse(kind, torch.cat([keys[:399], following])) @ K
    assert float((nested - expected).norm()) <= 1e-9 * float(expected.norm())


def test_keys_beside_which_c_vanishes_are_refused_also_when_they_come_later() -> None:
    inner = CholeskyPreconditioner(1e-6 * torch.eye(D_IN, dtype=torch.float64))
    held, small, large = ProtectedKeys(inner), 1e-4 * random_keys(3, 0), 1e4 * random_keys(2, 1)
    held.protect(small)
    with pytest.raises(NumericsError, match="the protected keys is singular"):
        held.protect(torch.cat([small[:2], large]))
    K = random_keys(3, 5).double().T
    torch.testing.assert_close(held.protect(small)(K), protect(inner, small.double().T)(K))


def test_the_factor_is_made_in_the_matrixs_own_memory() -> None:
    C = second_moment(2, 200)
    expected, solution = torch.linalg.cholesky(C), torch.linalg.solve(C, torch.ones(200, 3, dtype=torch.float64))
    factor = cholesky_(C)
    assert factor.data_ptr() == C.data_ptr()
    torch.testing.assert_close(factor, expected)
    torch.testing.assert_close(factored_solve(factor, torch.ones(200, 3, dtype=torch.float64)), solution)


def test_a_matrix_that_is_given_to_be_factored_is_left_alone() -> None:
    C = second_moment(3)
    before = C.clone()
    cholesky(C)
    assert torch.equal(C, before)


def layer(name: str) -> Projection:
    return Projection(name, nn.Linear(D_IN, 4))


def moments(*names: str) -> SecondMoments:
    return SecondMoments({name: second_moment(i).float() for i, name in enumerate(names)}, 100)


OPTIONS = {"weight": 2.0, "shrinkage": 0.1, "ridge": 0.5}


def test_a_layers_system_is_the_shrunk_weighted_second_moment_with_its_ridge_and_c0_stays() -> None:
    given_moments = moments("a")
    before = given_moments.matrices["a"].clone()
    made = Factorizations(given_moments).cholesky(layer("a"), **OPTIONS)
    C0 = before.double()
    eye = torch.eye(D_IN, dtype=torch.float64)
    expected = 2.0 * (0.9 * C0 + 0.1 * C0.diagonal().mean() * eye) + 0.5 * eye
    torch.testing.assert_close(made.factor @ made.factor.T, expected)
    assert torch.equal(given_moments.matrices["a"], before)


def test_factors_and_solved_keys_live_as_long_as_the_run() -> None:
    factors, a = Factorizations(moments("a", "b")), layer("a")
    first = factors.cholesky(a, **OPTIONS)
    assert factors.cholesky(a, **OPTIONS) is first
    assert factors.cholesky(a, **{**OPTIONS, "shrinkage": 0.2}) is not first
    keys = random_keys(6, 0)
    one = factors.protected(a, first, keys[:4])
    two = factors.protected(a, first, keys)
    assert two.solved.data_ptr() == one.solved.data_ptr() or torch.equal(two.solved[:4], one.solved)  # type: ignore[attr-defined]
    other = factors.cholesky(a, **{**OPTIONS, "shrinkage": 0.2})
    K = random_keys(3, 5).double().T
    torch.testing.assert_close(factors.protected(a, other, keys)(K), protect(other, keys.double().T)(K))
    assert factors.protected(a, first, None) is first


def test_where_memory_is_short_the_factor_used_longest_ago_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = Factorizations(moments("a", "b", "c"))
    needed = 12 * D_IN**2

    def free(device: Any) -> int:
        return needed * (2 - len(factors._made))  # room for two

    monkeypatch.setattr(factorizations, "free_bytes", free)
    a, b = factors.cholesky(layer("a"), **OPTIONS), factors.cholesky(layer("b"), **OPTIONS)
    assert factors.cholesky(layer("a"), **OPTIONS) is a
    factors.cholesky(layer("c"), **OPTIONS)
    assert factors.cholesky(layer("a"), **OPTIONS) is a, "b was used longest ago"
    again = factors.cholesky(layer("b"), **OPTIONS)
    assert again is not b
    assert torch.equal(again.factor, b.factor)
