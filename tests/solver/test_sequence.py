"""A joint sequence: whatever happened to it, the next update makes the sum the joint solution of all facts in force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from seqedit.solver.preconditioners import CholeskyPreconditioner, NullSpacePreconditioner, Preconditioner, protect
from seqedit.solver.sequence import Held, joint_factors, solve_in_sequence, undone
from seqedit.support.cholesky import cholesky

D_IN, D_OUT = 24, 9


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@dataclass
class Batch:
    """Keys as rows, what is asked at them relative to the first weights, and what was written."""

    K: Tensor
    asked: Tensor
    written: Tensor | tuple[Tensor, Tensor] | None = None

    @property
    def dense(self) -> Tensor:
        assert self.written is not None
        return self.written if isinstance(self.written, Tensor) else self.written[0] @ self.written[1]


C = (lambda root: root @ root.T / 72 + 0.05 * torch.eye(D_IN, dtype=torch.float64))(random(D_IN, 72, seed=1))


def cov() -> Preconditioner:
    return CholeskyPreconditioner(cholesky(C))


def batches(*sizes: int) -> list[Batch]:
    return [Batch(random(n, D_IN, seed=10 + i), random(n, D_OUT, seed=90 + i)) for i, n in enumerate(sizes)]


def held_of(state: Sequence[Batch], facts: Sequence[tuple[Tensor, Tensor]] | None = None) -> Held:
    rows = [(one.K, one.asked) for one in state] if facts is None else facts
    keys, asked = (
        torch.cat([row[part] for row in rows]) if rows else torch.empty(0, d) for part, d in ((0, D_IN), (1, D_OUT))
    )
    return Held(keys, asked, tuple(one.written for one in state if one.written is not None))


def update(
    state: Sequence[Batch], new: Batch, a: float = 1.0, facts: Sequence[tuple[Tensor, Tensor]] | None = None
) -> tuple[Tensor, Tensor]:
    """Delta_t of a batch on a state, its residuals measured there."""
    held = held_of(state, facts)
    inverse = protect(cov(), held.weighed_keys(a).T)
    left = undone(inverse, held, a, rounding=1e-12)
    share = new.asked.T - held.at(new.K.T)
    B, A = solve_in_sequence(inverse, left, new.K.T, share, a)
    return torch.cat([-left.B, B], dim=1), torch.cat([left.A, A])


def directly(facts: Sequence[tuple[Tensor, Tensor]], a: float = 1.0) -> Tensor:
    """The joint least squares by its normal equations, nothing shared with what is tested."""
    K, R = (torch.cat([fact[part] for fact in facts]).T for part in (0, 1))
    return R @ K.T @ torch.linalg.inv(a * C + K @ K.T)


def run(todo: Sequence[Batch], a: float = 1.0, written: Callable[[Tensor], Tensor] | None = None) -> list[Batch]:
    state: list[Batch] = []
    for one in todo:
        B, A = update(state, one, a)
        state.append(Batch(one.K, one.asked, (B, A) if written is None else written(B @ A)))
    return state


def total(state: Sequence[Batch]) -> Tensor:
    return sum((one.dense for one in state), torch.zeros(D_OUT, D_IN, dtype=torch.float64))


def facts_of(state: Sequence[Batch]) -> list[tuple[Tensor, Tensor]]:
    return [(one.K, one.asked) for one in state]


@pytest.mark.parametrize("a", [1.0, 0.1])
def test_batches_in_sequence_are_one_joint_solve_of_all_facts(a: float) -> None:
    state = run(batches(3, 4, 2, 5), a)
    assert_equal(total(state), directly(facts_of(state), a))
    assert [one.written[1].shape[0] for one in state if isinstance(one.written, tuple)] == [3, 4, 2, 5]  # no repairs


def test_the_update_is_the_papers_formula_with_what_was_left_undone() -> None:
    half = lambda delta: torch.where(random(D_OUT, D_IN, seed=5) > 0, delta, torch.zeros_like(delta))  # noqa: E731
    *before, last = batches(3, 4, 2)
    state = run(before, written=half)
    B, A = update(state, last)
    # E accumulates as the paper has it: E_t = (filtered Delta_t - Delta_t) C_t.
    E, C_t, S = torch.zeros(D_OUT, D_IN, dtype=torch.float64), C.clone(), torch.zeros(D_OUT, D_IN, dtype=torch.float64)
    for one in before:
        C_t = C_t + one.K.T @ one.K
        ideal = ((one.asked.T - S @ one.K.T) @ one.K - E) @ torch.linalg.inv(C_t)
        E, S = (half(ideal) - ideal) @ C_t, S + half(ideal)
    assert_equal(S, total(state))
    C_t = C_t + last.K.T @ last.K
    expected = ((last.asked.T - S @ last.K.T) @ last.K - E) @ torch.linalg.inv(C_t)
    assert_equal(B @ A, expected)


@pytest.mark.parametrize("kind", ["elements", "columns", "scaled"])
def test_whatever_a_filter_takes_the_next_update_makes_the_sum_the_joint_solution_again(kind: str) -> None:
    mask = (
        (random(D_OUT, D_IN, seed=6) > 0.3).double() if kind == "elements" else (random(1, D_IN, seed=6) > 0.3).double()
    )
    cut = (lambda delta: 0.7 * delta) if kind == "scaled" else (lambda delta: delta * mask)
    *before, last = batches(3, 4, 2, 3)
    state = run(before, written=cut)
    assert float((total(state) - directly(facts_of(state))).norm()) > 1e-2  # the filter did take something
    B, A = update(state, last)
    assert_equal(total(state) + B @ A, directly(facts_of([*state, last])))


def test_after_a_revert_the_next_update_makes_the_sum_the_joint_solution_of_the_others() -> None:
    *before, last = batches(3, 4, 2, 3)
    state = run(before)
    del state[1]
    B, A = update(state, last)
    assert_equal(total(state) + B @ A, directly(facts_of([*state, last])))


def test_after_a_swap_and_in_another_order_too() -> None:
    *before, last = batches(3, 4, 2, 3)
    state = run(before)
    other = Batch(state[0].K, random(3, D_OUT, seed=77))
    state[0] = Batch(other.K, other.asked, update([], other, 0.5))  # another setting, on the state of its place
    state = [state[2], state[0], state[1]]
    B, A = update(state, last)
    assert_equal(total(state) + B @ A, directly(facts_of([*state, last])))


def test_superseded_facts_leave_the_sums_while_their_updates_are_still_written() -> None:
    first, second = batches(3, 4)
    state = run([first, second])
    again = Batch(first.K[1:2], random(1, D_OUT, seed=55))
    live = [(first.K[[0, 2]], first.asked[[0, 2]]), (second.K, second.asked)]
    B, A = update(state, again, facts=live)
    assert_equal(total(state) + B @ A, directly([*live, (again.K, again.asked)]))


def test_a_state_can_be_mended_without_a_new_batch() -> None:
    state = run(batches(3, 4, 2))
    del state[0]
    held = held_of(state)
    inverse = protect(cov(), held.keys.T)
    left = undone(inverse, held, 1.0, rounding=1e-12)
    assert_equal(total(state) - left.B @ left.A, directly(facts_of(state)))
    B, A = joint_factors(inverse, held, 1.0)
    assert_equal(B @ A, directly(facts_of(state)))


def test_in_alphaedits_null_space_the_sequence_is_one_joint_solve_as_well() -> None:
    vectors = torch.linalg.eigh(C).eigenvectors
    basis, l2 = vectors[:, :15], 2.0
    P = basis @ basis.T
    state: list[Batch] = []
    for one in batches(3, 4, 2):
        held = held_of(state)
        inverse = protect(NullSpacePreconditioner(basis, l2), held.keys.T)
        left = undone(inverse, held, 1.0, rounding=1e-12)
        B, A = solve_in_sequence(inverse, left, one.K.T, one.asked.T - held.at(one.K.T), 1.0)
        written = 0.8 * torch.cat([-left.B, B], dim=1), torch.cat([left.A, A])
        state.append(Batch(one.K, one.asked, (written[0] / (0.8 if len(state) == 2 else 1.0), written[1])))
    K, R = (torch.cat([fact[part] for fact in facts_of(state)]).T for part in (0, 1))
    eye = torch.eye(D_IN, dtype=torch.float64)
    assert_equal(total(state), R @ K.T @ P @ torch.linalg.inv(K @ K.T @ P + l2 * eye))
