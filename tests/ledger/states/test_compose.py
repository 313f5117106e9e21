from __future__ import annotations

import importlib
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqedit.adapters.composition import GROUP, Composition, compose
from seqedit.adapters.delta import Delta, Dense, LowRank
from seqedit.errors import InputError, NumericsError

compose_module = importlib.import_module("seqedit.adapters.composition")
NAMES = ("a", "b")
SHAPE = (4, 6)


@dataclass
class Fake:
    digest: str
    deltas: dict[str, Delta] = field(default_factory=dict)


def fake(seed: int, names=NAMES, kind: str = "low", rank: int = 2) -> Fake:
    random = torch.Generator().manual_seed(seed)
    deltas: dict[str, Delta] = {}
    for name in names:
        if kind == "dense":
            deltas[name] = Dense(torch.randn(*SHAPE, generator=random))
        else:
            b, a = torch.randn(SHAPE[0], rank, generator=random), torch.randn(rank, SHAPE[1], generator=random)
            deltas[name] = LowRank(b, a)
    return Fake(f"{seed:064x}", deltas)


def base_weights(dtype=torch.float32) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(7)
    return {name: torch.randn(*SHAPE, generator=random).to(dtype) for name in (*NAMES, "untouched")}


def naive(base, adapters):
    sums = {name: weight.to(torch.float64) for name, weight in base.items()}
    for adapter in adapters:
        for name, delta in adapter.deltas.items():
            sums[name] = sums[name] + delta.dense(torch.float64)
    return sums


recipes = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.sampled_from([("a",), ("b",), NAMES]),
        st.sampled_from(["low", "dense"]),
        st.integers(1, 4),
    ),
    max_size=150,
)


@settings(max_examples=60, deadline=None)
@given(recipes)
def test_composition_is_the_double_precision_sum_of_all_deltas(recipe):
    base = base_weights(torch.float64)
    adapters = [fake(*item) for item in recipe]
    composed = compose(base, adapters)
    for name, expected in naive(base, adapters).items():
        torch.testing.assert_close(composed[name], expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(recipes, st.integers(0, 2))
def test_resuming_from_a_snapshot_is_bit_exact(recipe, groups):
    base, adapters = base_weights(), [fake(*item) for item in recipe]
    cut = min(groups, len(adapters) // GROUP) * GROUP
    first = Composition(base)
    for adapter in adapters[:cut]:
        first.add(adapter)
    resumed = Composition(base, cut, first.snapshot())
    for adapter in adapters[cut:]:
        resumed.add(adapter)
    whole = compose(base, adapters)
    assert all(torch.equal(resumed.weights()[name], whole[name]) for name in whole)


@settings(max_examples=20, deadline=None)
@given(recipes, st.integers(0, 149))
def test_reading_the_weights_on_the_way_changes_nothing(recipe, position):
    base, adapters = base_weights(), [fake(*item) for item in recipe]
    composition = Composition(base)
    for number, adapter in enumerate(adapters):
        composition.add(adapter)
        if number == position:
            for weight in composition.weights().values():
                weight.clone()
    whole = compose(base, adapters)
    assert all(torch.equal(composition.weights()[name], whole[name]) for name in whole)


def test_one_matrix_product_is_made_per_group_and_module(monkeypatch):
    calls = []
    product = compose_module._product
    monkeypatch.setattr(
        compose_module, "_product", lambda deltas, device: calls.append(len(deltas)) or product(deltas, device)
    )
    compose(base_weights(), [fake(i, names=("a",)) for i in range(GROUP + 6)])
    assert calls == [GROUP, 6]


def test_a_product_ends_where_the_rank_would_pass_the_limit(monkeypatch):
    calls = []
    product = compose_module._product
    monkeypatch.setattr(compose_module, "MAX_RANK", 5)
    monkeypatch.setattr(
        compose_module, "_product", lambda deltas, device: calls.append(len(deltas)) or product(deltas, device)
    )
    compose(base_weights(), [fake(i, names=("a",), rank=2) for i in range(5)])
    assert calls == [2, 2, 1]


def test_untouched_modules_are_the_bases_own_and_the_base_is_not_changed():
    base = base_weights()
    before = {name: weight.clone() for name, weight in base.items()}
    composed = compose(base, [fake(1)])
    assert composed["untouched"] is base["untouched"]
    assert not torch.equal(composed["a"], base["a"])
    assert all(torch.equal(base[name], before[name]) for name in base)


def test_no_adapters_give_the_base_itself():
    base = base_weights(torch.bfloat16)
    assert all(compose(base, [])[name] is weight for name, weight in base.items())


def test_weights_are_cast_to_the_bases_dtype_once_at_the_end():
    base = base_weights(torch.bfloat16)
    adapters = [fake(i) for i in range(10)]
    composed = compose(base, adapters)
    for name, expected in naive(base, adapters).items():
        assert composed[name].dtype == torch.bfloat16
        assert torch.equal(composed[name], expected.to(torch.bfloat16))


def test_weights_handed_out_are_no_window_into_the_running_sum():
    composition = Composition(base_weights(torch.float64))
    for i in range(GROUP):
        composition.add(fake(i))
    first = composition.weights()["a"].clone()
    composition.weights()["a"].zero_()
    assert torch.equal(composition.weights()["a"], first)


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        ({"c": Dense(torch.zeros(4, 6))}, "no such module"),
        ({"a": Dense(torch.zeros(6, 4))}, r"delta is \(6, 4\), the weight \(4, 6\)"),
        ({"a": LowRank(torch.zeros(4, 2), torch.zeros(3, 6))}, "do not fit"),
        ({"a": Dense(torch.full((4, 6), float("nan")))}, "not finite"),
        ({"a": LowRank(torch.full((4, 1), float("inf")), torch.zeros(1, 6))}, "not finite"),
    ],
)
def test_a_delta_that_does_not_fit_is_refused_by_adapter_and_module(delta, message):
    composition = Composition(base_weights())
    with pytest.raises(InputError, match=message) as error:
        composition.add(Fake("ab" * 32, {"b": Dense(torch.ones(4, 6)), **delta}))
    assert "abababababab" in str(error.value)
    assert f"'{next(iter(delta))}'" in str(error.value)
    assert torch.equal(composition.weights()["b"], base_weights()["b"])


def test_overflow_of_the_bases_dtype_is_refused():
    with pytest.raises(NumericsError, match=r"'a'.*float16"):
        compose(base_weights(torch.float16), [Fake("0" * 64, {"a": Dense(torch.full((4, 6), 1e6))})])


def test_snapshots_exist_only_at_multiples_of_the_group():
    composition = Composition(base_weights())
    composition.add(fake(1))
    with pytest.raises(InputError, match="multiple of 64"):
        composition.snapshot()
    with pytest.raises(InputError, match="multiple of 64"):
        Composition(base_weights(), 63, {})
