"""A joint sequence with filters: what one takes, the next update finds undone, also after a revert or a swap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from seqedit.methods.interface import LayerUpdate
from seqedit.methods.one_layer import dense
from seqedit.solver.sequence import Held
from tests.filters.layers import D_IN, D_OUT, C, W, next_of, random, sum_of

FILTERS: list[dict[str, Any]] = [
    {"update_filter": "revive"}, {"update_filter": "revive", "filter_inside": True},
    {"update_filter": "sphere"}, {"update_filter": "sphere", "filter_strength": 1.0, "filter_inside": True},
    {"update_filter": "rect"}, {"update_filter": "prune"}, {"update_filter": "nse", "filter_share": 0.5},
]  # fmt: skip
SIZE = 6.0
"""Of what is asked, so large that PRUNE has something to damp."""


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    # Rounded as adapters keep them.
    return [
        (random(n, D_IN, seed=50 + i).float().double(), (SIZE * random(n, D_OUT, seed=70 + i)).float().double())
        for i, n in enumerate(sizes)
    ]


def held_of(state: Sequence[LayerUpdate]) -> Held:
    residuals = [one.residuals for one in state if one.residuals is not None]
    return Held(torch.cat([one.keys for one in state]), torch.cat(residuals), tuple(one.delta for one in state))


def run(todo: Sequence[tuple[Tensor, Tensor]], state: Sequence[LayerUpdate] = (), **settings: Any) -> list[LayerUpdate]:
    state = list(state)
    for K, asked in todo:
        state.append(next_of(held_of(state) if state else None, K, asked, **settings))
    return list(state)


def directly(facts: Sequence[tuple[Tensor, Tensor]], within: Tensor | None = None, a: float = 1.0) -> Tensor:
    """The joint least squares by its normal equations; ``within``: over updates whose rows lie in this basis."""
    K, R = (torch.cat([fact[part] for fact in facts]).T for part in (0, 1))
    Q = torch.eye(D_IN, dtype=torch.float64) if within is None else within
    return R @ K.T @ Q @ torch.linalg.inv(Q.T @ (a * C + K @ K.T) @ Q) @ Q.T


def assert_equal(found: Tensor, expected: Tensor) -> None:
    # Residuals are kept in float32 and read from the state, so 1e-8 of what is asked.
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8 * SIZE)


@pytest.mark.parametrize("settings", FILTERS, ids=str)
def test_the_state_and_what_the_last_filter_took_are_the_joint_solution(settings: dict[str, Any]) -> None:
    facts = batches(3, 4, 2, 3)
    before = run(facts[:3], **settings)
    assert float((sum_of(held_of(before)) - directly(facts[:3])).norm()) > 1e-2  # something was taken
    whole = run(facts[3:], before)  # the same batch on the same state without a filter
    assert_equal(sum_of(held_of(whole)), directly(facts))
    last = run(facts[3:], before, **settings)[-1]
    remainder = dense(whole[-1].delta) - dense(last.delta)
    assert_equal(sum_of(held_of([*before, last])) + remainder, directly(facts))


@pytest.mark.parametrize("settings", FILTERS, ids=str)
def test_after_a_revert_a_swap_and_in_another_order_too(settings: dict[str, Any]) -> None:
    facts = batches(3, 4, 2, 3)
    a, b, c = run(facts[:3], **settings)
    assert_equal(sum_of(held_of(run(facts[3:], [a, c]))), directly([facts[0], facts[2], facts[3]]))
    assert_equal(sum_of(held_of(run(facts[3:], [c, b, a]))), directly([facts[i] for i in (2, 1, 0, 3)]))
    other = next_of(None, facts[1][0], 0.5 * facts[1][1], update_filter="rect")
    swapped = run(facts[3:], [a, other, c])
    assert_equal(sum_of(held_of(swapped)), directly([facts[0], (facts[1][0], 0.5 * facts[1][1]), facts[2], facts[3]]))


def test_prune_restrains_the_joint_sum_once_however_many_batches_led_to_it() -> None:
    facts = batches(3, 4, 2)
    J, largest = directly(facts), float(torch.linalg.svdvals(W)[0])
    U, s, Vh = torch.linalg.svd(J, full_matrices=False)
    expected = U @ torch.diag(torch.where(s > largest, s.log() - torch.tensor(largest).log() + largest, s)) @ Vh
    torch.testing.assert_close(sum_of(held_of(run(facts, update_filter="prune"))), expected, rtol=1e-6, atol=1e-6)


def rows_kept(name: str) -> tuple[Tensor, Tensor]:
    weight = W if name == "revive" else W / W.norm(dim=1, keepdim=True)
    U, s, Vh = torch.linalg.svd(weight)
    k = int((s.square().cumsum(0) / s.square().sum() <= 0.5).sum()) + 1
    left = U[:, k:] @ U[:, k:].T if name == "revive" else torch.eye(D_OUT, dtype=torch.float64)
    return left, Vh[k:].T


@pytest.mark.parametrize("name", ["revive", "sphere"])
def test_a_projection_filters_the_joint_solution_and_costs_no_rank(name: str) -> None:
    facts = batches(3, 4, 2)
    strength: dict[str, Any] = {} if name == "revive" else {"filter_strength": 1.0}
    P, Q = rows_kept(name)
    for inside, expected in ((False, directly(facts) @ Q @ Q.T), (True, directly(facts, Q))):
        state = run(facts, update_filter=name, filter_inside=inside, **strength)
        assert_equal(sum_of(held_of(state)), P @ expected)
        assert [one.delta[1].shape[0] for one in state if isinstance(one.delta, tuple)] == [3, 4, 2]


def test_solved_inside_after_a_revert_it_is_the_best_from_the_state_as_it_is() -> None:
    facts = batches(3, 4, 2, 3)
    settings: dict[str, Any] = {"update_filter": "sphere", "filter_strength": 1.0, "filter_inside": True}
    plain = run(facts[:1])[0]  # written everywhere, before the filter was asked for
    b = run(facts[1:3], [plain], **settings)[2]
    _, Q = rows_kept("sphere")
    state = run(facts[3:], [plain, b], **settings)
    live = [facts[0], facts[2], facts[3]]
    K, R = (torch.cat([fact[part] for fact in live]).T for part in (0, 1))
    S = dense(plain.delta) + dense(b.delta)
    H = C + K @ K.T
    # min over X of the joint objective at S + X Q^T, by its gradient: 2 ((S + X Q^T) H - R K^T) Q = 0.
    X = (R @ K.T - S @ H) @ Q @ torch.linalg.inv(Q.T @ H @ Q)
    assert_equal(sum_of(held_of(state)), S + X @ Q.T)


def test_each_batch_of_nse_is_the_best_within_its_own_neurons() -> None:
    facts = batches(3, 4, 2)
    before = run(facts[:2], update_filter="nse", filter_share=0.4)
    last = run(facts[2:], before, update_filter="nse", filter_share=0.4)[-1]
    scores, total = facts[2][0].abs().sum(0), 0.0
    chosen = []
    for i in scores.argsort(descending=True):
        total += float(scores[i])
        if total > 0.4 * float(scores.sum()):
            break
        chosen.append(int(i))
    Q = torch.eye(D_IN, dtype=torch.float64)[:, chosen]
    K, R = (torch.cat([fact[part] for fact in facts]).T for part in (0, 1))
    S, H = sum_of(held_of(before)), C + K @ K.T
    X = (R @ K.T - S @ H) @ Q @ torch.linalg.inv(Q.T @ H @ Q)
    assert_equal(dense(last.delta), X @ Q.T)


@pytest.mark.parametrize("settings", FILTERS, ids=str)
def test_written_shares_are_of_the_residual_that_the_batch_found(settings: dict[str, Any]) -> None:
    facts = batches(3, 4)
    before = run(facts[:1], **settings)
    last = run(facts[1:], before, **settings)[-1]
    K, asked = facts[1]
    R = asked.T - sum_of(held_of(before)) @ K.T
    assert last.solved is not None
    expected = ((dense(last.delta) @ K.T) * R).sum(0) / R.square().sum(0)
    assert last.solved.written == pytest.approx(expected.tolist(), rel=1e-6, abs=1e-8)
