"""The algebra of the closed form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqedit.adapters.delta import LowRank
from seqedit.errors import NumericsError
from seqedit.methods.closed_form import spread_divisor
from seqedit.solver.closed_form import solve
from seqedit.solver.preconditioners import CholeskyPreconditioner, NullSpacePreconditioner, protect
from seqedit.support.cholesky import cholesky

shapes = st.tuples(st.integers(1, 6), st.integers(6, 20), st.integers(1, 12), st.integers(0, 10_000))


def problem(n: int, d_in: int, d_out: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d_in, 3 * d_in, dtype=torch.float64, generator=generator)
    C = root @ root.T / (3 * d_in) + 0.05 * torch.eye(d_in, dtype=torch.float64)
    K = torch.randn(d_in, n, dtype=torch.float64, generator=generator)
    R = torch.randn(d_out, n, dtype=torch.float64, generator=generator)
    return C, K, R


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_at_a_equal_to_1_it_is_memits_least_squares_solution(shape: tuple[int, int, int, int]) -> None:
    C, K, R = problem(*shape)
    B, A = solve(CholeskyPreconditioner(cholesky(C)), K, R, 1.0)
    direct = R @ K.T @ torch.linalg.inv(C + K @ K.T)
    torch.testing.assert_close(B @ A, direct, rtol=1e-8, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_at_a_equal_to_0_the_constraint_is_met(shape: tuple[int, int, int, int]) -> None:
    C, K, R = problem(*shape)
    B, A = solve(CholeskyPreconditioner(cholesky(C)), K, R, 0.0)
    torch.testing.assert_close(B @ A @ K, R, rtol=1e-6, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(shapes, st.floats(0.01, 100))
def test_at_a_equal_to_0_the_weight_of_the_second_moment_cancels(
    shape: tuple[int, int, int, int], weight: float
) -> None:
    C, K, R = problem(*shape)
    B1, A1 = solve(CholeskyPreconditioner(cholesky(C)), K, R, 0.0)
    B2, A2 = solve(CholeskyPreconditioner(cholesky(weight * C)), K, R, 0.0)
    torch.testing.assert_close(B1 @ A1, B2 @ A2, rtol=1e-6, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(shapes, st.floats(0.0, 5.0))
def test_rounded_factors_keep_the_product_to_float32(shape: tuple[int, int, int, int], a: float) -> None:
    C, K, R = problem(*shape)
    B, A = solve(CholeskyPreconditioner(cholesky(C)), K, R, a)
    exact = B @ A
    stored = LowRank.from_factors(B, A).dense()
    assert float((stored - exact).norm()) <= 4e-7 * float(exact.norm())


def test_among_all_deltas_that_meet_the_constraint_it_disturbs_the_rest_least() -> None:
    C, K, R = problem(3, 12, 5, 7)
    B, A = solve(CholeskyPreconditioner(cholesky(C)), K, R, 0.0)
    best = B @ A
    null = torch.eye(12, dtype=torch.float64) - K @ torch.linalg.pinv(K)
    other = best + torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) @ null
    torch.testing.assert_close(other @ K, R)
    assert torch.trace(best @ C @ best.T) < torch.trace(other @ C @ other.T)


def test_equal_keys_under_the_strict_constraint_are_refused_and_named() -> None:
    C, K, R = problem(4, 12, 5, 3)
    K[:, 3] = K[:, 1]
    with pytest.raises(NumericsError, match="requests 1 and 3"):
        solve(CholeskyPreconditioner(cholesky(C)), K, R, 0.0)
    solve(CholeskyPreconditioner(cholesky(C)), K, R, 0.1)  # relaxed, it can be solved


def test_a_singular_second_moment_is_refused_with_the_way_out() -> None:
    with pytest.raises(NumericsError, match=r"'h\.1' is .*shrinkage"):
        cholesky(torch.diag(torch.tensor([1.0, 1.0, 0.0])), "'h.1'")
    with pytest.raises(NumericsError, match="singular to working precision"):
        cholesky(torch.diag(torch.tensor([1.0, 1.0, 1e-18])))


def test_spreads_hand_out_the_whole_residual_when_each_layer_does_its_share() -> None:
    for spread in ("even", "sqrt"):
        left = 1.0
        for index in range(4):
            left -= left / spread_divisor(spread, 4 - index)  # type: ignore[arg-type]
        assert left == pytest.approx(0.0)
    assert spread_divisor("even", 3) == 3
    assert spread_divisor("sqrt", 4) == 2
    assert spread_divisor("single", 1) == 1


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 8))
def test_protected_keys_are_added_to_the_second_moment(shape: tuple[int, int, int, int], earlier: int) -> None:
    C, K, R = problem(*shape)
    Kp = torch.randn(C.shape[0], earlier, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    B1, A1 = solve(protect(CholeskyPreconditioner(cholesky(C)), Kp), K, R, 1.0)
    B2, A2 = solve(CholeskyPreconditioner(cholesky(C + Kp @ Kp.T)), K, R, 1.0)
    torch.testing.assert_close(B1 @ A1, B2 @ A2, rtol=1e-7, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 8))
def test_the_null_space_preconditioner_gives_alphaedits_update(shape: tuple[int, int, int, int], earlier: int) -> None:
    C, K, R = problem(*shape)
    d_in = C.shape[0]
    Kp = torch.randn(d_in, earlier, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    basis = torch.linalg.eigh(C)[1][:, : d_in // 2]
    P, L2 = basis @ basis.T, 3.0
    B, A = solve(protect(NullSpacePreconditioner(basis, L2), Kp), K, R, 1.0)
    eye = torch.eye(d_in, dtype=torch.float64)
    direct = torch.linalg.solve(P @ (Kp @ Kp.T + K @ K.T) + L2 * eye, P @ K @ R.T).T
    torch.testing.assert_close(B @ A, direct, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(B @ A @ (eye - P), torch.zeros_like(B @ A), atol=1e-9, rtol=0)
