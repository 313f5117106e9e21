"""The null space that shrinks by every edit's keys: exact at them, a function of the list of keys alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqedit.errors import NumericsError
from seqedit.solver import evolving_null_space as module
from seqedit.solver.closed_form import solve
from seqedit.solver.evolving_null_space import EvolvingKeys, EvolvingNullSpace
from seqedit.solver.preconditioners import NullSpacePreconditioner, protect

D_IN, M, D_OUT, L2 = 40, 30, 7, 2.0


def space(seed: int = 0, drop: float = 1e-6) -> EvolvingNullSpace:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(D_IN, D_IN, dtype=torch.float64, generator=generator)).Q[:, :M].contiguous()
    return EvolvingNullSpace("h.1", basis, L2, drop, basis.new_empty(M, 0))


def drawn(n: int, seed: int) -> Tensor:
    return torch.randn(n, D_IN, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[4, 32])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "BLOCK", request.param)
    return int(request.param)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 10_000))
def test_every_batch_writes_nothing_at_all_earlier_keys(sizes: list[int], seed: int) -> None:
    inner, before = space(seed), torch.empty(0, D_IN, dtype=torch.float64)
    kept, P = EvolvingKeys(inner), inner.basis @ inner.basis.T
    for number, size in enumerate(sizes):
        keys = drawn(size, seed + number + 1)
        R = torch.randn(D_OUT, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        precondition = kept.protect(before)
        B, A = solve(precondition, keys.T, R, 1.0)
        delta = B @ A
        if len(before):
            assert float((delta @ before.T).abs().max()) < 1e-10
        assert float((delta - delta @ P).abs().max()) < 1e-10  # and nothing outside the null space of C0
        # The published update with the projector that the definition gives.
        lost = torch.linalg.qr(P @ before.T).Q
        shrunk = P - lost @ lost.T
        eye = torch.eye(D_IN, dtype=torch.float64)
        direct = torch.linalg.solve(shrunk @ keys.T @ keys + L2 * eye, shrunk @ keys.T @ R.T).T
        torch.testing.assert_close(delta, direct, rtol=1e-8, atol=1e-10)
        before = torch.cat([before, keys])
        assert precondition.left == M - (len(before) - size)


def test_what_is_left_depends_on_the_list_of_keys_alone_bit_for_bit(block: int) -> None:
    keys = drawn(23, 3)
    fresh = EvolvingKeys(space()).protect(keys).used
    grown, other = EvolvingKeys(space()), EvolvingKeys(space())
    for n in (5, 9, 16, 23):
        used = grown.protect(keys[:n]).used
    assert torch.equal(used, fresh)
    other.protect(torch.cat([keys[:7], drawn(10, 9)]))  # a batch that is reverted
    assert torch.equal(other.protect(keys).used, fresh)
    assert torch.equal(other.protect(keys[:7]).used, EvolvingKeys(space()).protect(keys[:7]).used)


def test_a_revert_gives_its_directions_back() -> None:
    kept, first, second = EvolvingKeys(space()), drawn(4, 1), drawn(5, 2)
    both = kept.protect(torch.cat([first, second]))
    assert both.left == M - 9
    assert float(both(first.T).norm()) == 0
    back = kept.protect(second)
    assert back.left == M - 5
    assert float((back(first.T)).norm()) > 0.1


def test_a_key_that_is_there_already_takes_no_second_direction() -> None:
    inner, keys = space(), drawn(4, 1)
    near = keys[2] + 1e-8 * drawn(1, 5)[0]
    twice = torch.cat([keys, keys[1:2], near[None], keys[0:1] - 2 * keys[3:4]])
    found = EvolvingKeys(inner).protect(twice)
    assert found.left == M - 4
    # What stays of the near one is no more than the setting says.
    part = (inner.basis.T @ near).norm()
    assert 0 < float(found(near[:, None]).norm() * L2) <= 1e-6 * float(part)
    assert EvolvingKeys(space(drop=1e-10)).protect(twice).left == M - 5
    outside = drawn(2, 7)
    outside -= outside @ inner.basis @ inner.basis.T
    assert EvolvingKeys(inner).protect(outside).left == M  # outside of the null space to begin with


def test_nearly_dependent_keys_leave_a_basis_that_is_orthonormal_to_rounding(block: int) -> None:
    base = drawn(3, 1)
    keys = torch.cat([base, *(base + 10.0**-k * drawn(3, 10 + k) for k in range(1, 6))])
    used = EvolvingKeys(space()).protect(keys).used
    assert used.shape[1] == 18
    eye = torch.eye(used.shape[1], dtype=torch.float64)
    assert float((used.T @ used - eye).abs().max()) < 1e-12


def test_when_nothing_is_left_an_error_says_what_to_do() -> None:
    kept = EvolvingKeys(space())
    assert kept.protect(drawn(M - 1, 4)).left == 1
    with pytest.raises(NumericsError, match=r"nothing is left of the null space of 'h.1': the 34 facts.* all 30 dim"):
        kept.protect(drawn(M + 4, 4))
    assert kept.protect(drawn(M - 1, 4)).left == 1


def test_keys_that_follow_the_subject_are_weighed_inside_of_what_is_left() -> None:
    earlier, following = drawn(6, 1), drawn(3, 2)
    shrunk = EvolvingKeys(space()).protect(earlier)
    free = torch.linalg.qr(shrunk.used, mode="complete").Q[:, 6:]
    plain = protect(NullSpacePreconditioner(shrunk.basis @ free, L2), following.T)
    K = drawn(4, 3).T
    torch.testing.assert_close(protect(shrunk, following.T)(K), plain(K))
    many = drawn(M + 5, 8)  # more than the system has rows: they are added to it
    torch.testing.assert_close(
        protect(shrunk, many.T)(K), NullSpacePreconditioner(shrunk.basis @ free, L2).with_keys(many)(K)
    )
