"""Each filter is its published formula, written here once more from the formula, on small random layers."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from seqedit.errors import InputError
from seqedit.filters import FilterName, filter_names
from seqedit.methods import get_method
from seqedit.methods.one_layer import alone, dense, filter_of
from seqedit.solver.closed_form import solve
from seqedit.solver.preconditioners import CholeskyPreconditioner, NullSpacePreconditioner, protect
from seqedit.solver.subspaces import Complement, Coordinates
from seqedit.support.cholesky import cholesky
from tests.filters import layers
from tests.filters.layers import D_IN, D_OUT, EYE, C, W, config, edit, free, random

K, R = random(4, D_IN, seed=20), random(D_OUT, 4, seed=21)
HARD = {"update_filter": "sphere", "filter_strength": 1.0}


def assert_equal(found: Tensor, expected: Any, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=tolerance, atol=tolerance)


def revive_by_terms(delta: Tensor, tau: float) -> Tensor:
    """Every term alpha_ij u_i v_j^T that touches none of the first k directions, one after the other."""
    U, s, Vt = np.linalg.svd(W.numpy(), full_matrices=True)
    energy = np.cumsum(s**2) / np.sum(s**2)
    k = next(i + 1 for i, share in enumerate(energy) if share > tau)
    kept = np.zeros_like(W.numpy())
    for i in range(k, D_OUT):
        for j in range(k, D_IN):
            kept += (U[:, i] @ delta.numpy() @ Vt[j]) * np.outer(U[:, i], Vt[j])
    return torch.from_numpy(kept)


@pytest.mark.parametrize("tau", [None, 0.1, 0.9])
def test_revive(tau: float | None) -> None:
    found = edit(K, R, update_filter="revive", filter_energy=tau)
    assert_equal(dense(found.delta), revive_by_terms(free(K, R), tau or 0.5))


@pytest.mark.parametrize(("eta", "alpha"), [(None, None), (0.3, 1.0), (0.8, 0.5)])
def test_sphere(eta: float | None, alpha: float | None) -> None:
    rows = W.numpy() / np.linalg.norm(W.numpy(), axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(rows.T @ rows / D_OUT)
    shares = np.cumsum(values[::-1]) / values.sum()
    r = int(np.sum(shares <= (eta or 0.5))) + 1
    U = vectors[:, D_IN - r :]
    expected = free(K, R).numpy() @ (np.eye(D_IN) - (alpha or 0.8) * U @ U.T)
    found = edit(K, R, update_filter="sphere", filter_energy=eta, filter_strength=alpha)
    assert_equal(dense(found.delta), expected)


@pytest.mark.parametrize("share", [None, 0.1, 1.0])
def test_rect(share: float | None) -> None:
    weight = W + 0.1 * random(D_OUT, D_IN, seed=30)  # the weight before the batch, not the original one
    weight[2, 3] = 0.0
    delta = free(K, R).numpy()
    relative = sorted((abs(delta[i, j] / (weight[i, j].item() or 1e-300)), i, j) for i, j in np.ndindex(*delta.shape))
    dropped = math.floor((1 - (share or 0.4)) * delta.size) - 1  # what is below the m-th smallest
    expected = delta.copy()
    for _, i, j in relative[: max(dropped, 0)]:
        expected[i, j] = 0.0
    found = edit(K, R, weight=weight, update_filter="rect", filter_share=share)
    assert isinstance(found.delta, Tensor)
    assert_equal(found.delta, expected)
    assert bool(((found.delta == 0) == (torch.from_numpy(expected) == 0)).all())  # zeros are exact


def pruned(total: Tensor, largest: float) -> Tensor:
    U, s, Vt = np.linalg.svd(total.numpy(), full_matrices=False)
    return torch.from_numpy(
        U @ np.diag([math.log(x) - math.log(largest) + largest if x > largest else x for x in s]) @ Vt
    )


@pytest.mark.parametrize("size", [0.5, 30.0])
def test_prune(size: float) -> None:
    before = 40 * torch.outer(random(D_OUT, seed=31), random(D_IN, seed=32)) / 12
    largest = float(np.linalg.norm(W.numpy(), 2))
    assert largest > 1  # where the logarithm makes nothing larger
    found = edit(K, size * R, weight=W + before, update_filter="prune")
    assert_equal(dense(found.delta), pruned(before + free(K, size * R), largest) - before)
    assert isinstance(found.delta, tuple)
    damped = int((torch.linalg.svdvals(before + free(K, size * R)) > largest).sum())
    assert found.delta[1].shape[0] == 4 + damped


def test_prune_leaves_what_is_not_too_large_to_the_bit_and_never_makes_anything_larger() -> None:
    plain, found = edit(K, 1e-3 * R), edit(K, 1e-3 * R, update_filter="prune")
    assert all(torch.equal(x, y) for x, y in zip(plain.delta, found.delta, strict=True))
    weight, before = 0.01 * W, torch.zeros_like(W)  # the published logarithm grows values between m and a point above
    for scale in (0.05, 0.2, 1.0, 20.0):
        place = layers.projection(weight + before)
        applied = filter_of(layers.bench(weight), place, K, config(update_filter="prune"))
        new = dense(alone(place, layers.cov(), K, scale * R, 1.0, applied=applied).delta)
        assert bool((torch.linalg.svdvals(new) <= torch.linalg.svdvals(free(K, scale * R)) + 1e-12).all())


@pytest.mark.parametrize(("share", "a"), [(None, 1.0), (0.3, 0.1), (1e-6, 1.0), (1.0, 1.0)])
def test_nse(share: float | None, a: float) -> None:
    scores = np.abs(K.numpy()).sum(0)
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if chosen and scores[chosen].sum() + scores[i] > (share or 0.8) * scores.sum() * (1 + 1e-12):
            break
        chosen.append(int(i))
    k = K.numpy()[:, chosen].T
    inner = np.linalg.inv(a * C.numpy()[np.ix_(chosen, chosen)] + k @ k.T)
    expected = np.zeros((D_OUT, D_IN))
    expected[:, chosen] = R.numpy() @ k.T @ inner
    found = edit(K, R, a=a, update_filter="nse", filter_share=share)
    assert_equal(dense(found.delta), expected)
    others = [i for i in range(D_IN) if i not in chosen]
    assert bool((dense(found.delta)[:, others] == 0).all())


def bases(**settings: Any) -> tuple[Tensor, Tensor]:
    """Orthonormal bases of the directions that an update may not touch, on either side."""
    if settings["update_filter"] == "revive":
        U, s, Vt = torch.linalg.svd(W)
        k = int((s.square().cumsum(0) / s.square().sum() <= 0.5).sum()) + 1
        return U[:, :k], Vt[:k].T
    rows = W / W.norm(dim=1, keepdim=True)
    _, s, Vt = torch.linalg.svd(rows)
    return W[:, :0], Vt[: int((s.square().cumsum(0) / s.square().sum() <= 0.5).sum()) + 1].T


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("settings", [{"update_filter": "revive"}, HARD])
def test_a_projection_never_touches_the_forbidden_subspace_and_done_twice_is_done_once(
    settings: dict[str, Any], inside: bool
) -> None:
    found = dense(edit(K, R, **settings, filter_inside=inside).delta)
    left, right = bases(**settings)
    assert float((left.T @ found).norm()) < 1e-10
    assert float((found @ right).norm()) < 1e-10
    applied = filter_of(layers.bench(), layers.projection(), K, config(**settings))
    assert applied is not None
    again = dense(applied(found, EYE))
    assert float((again - found).norm()) < 1e-10


@pytest.mark.parametrize("settings", [{"update_filter": "revive"}, HARD])
def test_solved_inside_it_is_the_minimum_among_the_updates_that_the_filter_leaves(settings: dict[str, Any]) -> None:
    left, right = bases(**settings)

    def objective(delta: Tensor) -> float:
        return float((delta @ K.T - R).square().sum() + (delta @ C @ delta.T).trace())

    def rest(directions: Tensor, d: int) -> Tensor:
        return torch.linalg.svd(torch.eye(d, dtype=torch.float64) - directions @ directions.T)[0][
            :, : d - directions.shape[1]
        ]

    P, Q = rest(left, D_OUT), rest(right, D_IN)
    k = Q.T @ K.T  # delta = P X Q^T: the least squares for X alone
    X = P.T @ R @ k.T @ torch.linalg.inv(k @ k.T + Q.T @ C @ Q)
    inside = dense(edit(K, R, **settings, filter_inside=True).delta)
    assert_equal(inside, P @ X @ Q.T)
    assert objective(inside) < objective(dense(edit(K, R, **settings).delta)) - 1e-3


@pytest.mark.parametrize(
    "kept", [Complement(torch.linalg.qr(random(D_IN, 6, seed=40)).Q), Coordinates(random(D_IN, seed=41) > 0)]
)
def test_confined_inverses(kept: Any) -> None:
    P = kept.project(EYE)
    Q = torch.linalg.svd(P)[0][:, : int(P.trace().round())]
    keys = random(5, D_IN, seed=42)
    plain = CholeskyPreconditioner(cholesky(C))
    within = lambda M: Q @ torch.linalg.inv(Q.T @ M @ Q) @ Q.T  # noqa: E731
    assert_equal(plain.confined(kept)(EYE), within(C))
    assert_equal(plain.product(EYE), C)
    protected = protect(plain, keys.T)
    assert_equal(protected.product(EYE), C + keys.T @ keys)
    assert_equal(protected.confined(kept)(EYE), within(C + keys.T @ keys))
    assert_equal(plain.confined(kept).with_keys(keys)(EYE), within(C + keys.T @ keys))
    assert_equal(plain.confined(kept).product(EYE), P @ C @ P)
    vectors = torch.linalg.eigh(C).eigenvectors
    null = NullSpacePreconditioner(vectors[:, :20], 2.0)
    N = vectors[:, :20]
    within_keys = 2.0 * EYE + keys.T @ keys
    for one, M in ((null, 2.0 * EYE), (null.with_keys(keys), within_keys), (protect(null, keys.T), within_keys)):
        # What lies in both: the null space of both complements together.
        both = torch.linalg.svd(torch.cat([EYE - N @ N.T, EYE - P]))
        T = both.Vh[both.S < 1e-9].T
        assert_equal(one.confined(kept)(EYE), T @ torch.linalg.inv(T.T @ M @ T) @ T.T, 1e-7)


def test_without_a_filter_nothing_changes_to_the_bit() -> None:
    found = edit(K, R)
    assert found.filtered is None
    for one, expected in zip(found.delta, solve(layers.cov(), K.T, R, 1.0), strict=True):
        assert torch.equal(one, expected)


def test_what_was_written_is_said_of_the_filtered_update() -> None:
    for settings in (
        {"update_filter": "rect"},
        {"update_filter": "revive"},
        {"update_filter": "nse", "filter_share": 0.2},
    ):
        found = edit(K, R, **settings)
        assert found.solved is not None
        assert found.filtered is not None
        at = dense(found.delta) @ K.T
        assert found.solved.written == pytest.approx(((at * R).sum(0) / (R * R).sum(0)).tolist())
        assert sum(found.solved.written) < 4 * found.filtered.written_before + 1e-9
        assert (found.filtered.rank, found.filtered.rank_before) == (9 if settings["update_filter"] == "rect" else 4, 4)


def test_the_setting_knows_all_filters() -> None:
    assert sorted(get_args(FilterName)) == sorted([*filter_names(), "none"])


def test_alphaedit_has_a_strength_of_its_own_as_published() -> None:
    for method, strength in (("alphaedit", 0.5), ("memit", 0.8)):
        found: Any = get_method(method).config.from_dict({"layers": [1], "update_filter": "sphere"})
        assert (found.filter_settings.energy, found.filter_settings.strength) == (0.5, strength)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filter_energy": 0.5}, "not read with update_filter 'none'"),
        ({"update_filter": "rect", "filter_energy": 0.5}, "not read with update_filter 'rect'"),
        ({"update_filter": "revive", "filter_energy": 1.0}, "between 0 and 1"),
        ({"update_filter": "nse", "filter_share": 0.0}, "greater than 0"),
        ({"update_filter": "rect", "filter_inside": True}, "a projection, got update_filter 'rect'"),
        ({"filter_inside": True}, "a projection, got update_filter 'none'"),
        ({"update_filter": "sphere", "filter_inside": True}, "filter_strength=1"),
        ({"update_filter": "revise"}, "did you mean"),
    ],
)  # fmt: skip
def test_settings_that_say_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**settings)
