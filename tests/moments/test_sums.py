"""Second moments as sums: triangles, shares, merging, reduced precision, memory that runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import seqedit.moments.sums
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.forward.fused_gelu import fused_activations
from seqedit.models.anatomy import Anatomy, anatomy
from seqedit.moments.measure import compute_second_moments, packed_rows
from seqedit.moments.second_moments import SecondMoments, sample_size
from seqedit.moments.sums import MomentSum, blocks, reduced_products
from seqedit.support import memory
from seqedit.support.memory import free_bytes, is_out_of_memory

TEXTS = [f"Number {i} is a fact about the town of Lyon and about golf." for i in range(60)]

PARTS: dict[int, Anatomy] = {}
"""Of the fixtures' models, which live as long as the tests do."""


@pytest.fixture(params=["reference_model", "llama"])
def loaded(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    found: tuple[Any, Any] = request.getfixturevalue(request.param)
    return found


def measure(loaded: Any, layers: list[int] | None = None, **options: Any) -> SecondMoments:
    model, tokenizer = loaded
    chosen = {"max_tokens": 600, "sequence_length": 20, "rows_per_batch": 4, **options}
    if id(model) not in PARTS:  # finding them runs the model, which must not be where a forward pass is made to fail
        PARTS[id(model)] = anatomy(model)
    return compute_second_moments(model, tokenizer, PARTS[id(model)].projections_of(layers or [0, 2]), TEXTS, **chosen)


def close(first: SecondMoments, second: SecondMoments, tolerance: float) -> bool:
    return all(
        float((first.matrices[n].double() - m.double()).norm()) <= tolerance * float(m.double().norm())
        for n, m in second.matrices.items()
    )


@given(st.integers(1, 3000))
@settings(max_examples=50, deadline=None)
def test_blocks_cover_the_upper_triangle_and_little_else(size: int) -> None:
    covered = torch.zeros(size, size, dtype=torch.int8)
    for rows, columns in blocks(size):
        covered[rows, columns] += 1
    assert bool((covered.triu() == torch.ones_like(covered).triu()).all())
    assert size < 1000 or int(covered.sum()) <= 0.57 * size**2


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_sums_are_those_of_float64_however_they_are_staged(d_in: int, passes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    held, everything = MomentSum(0), []
    held.capacity = 64
    for _ in range(passes):
        keys = torch.randn(int(torch.randint(1, 65, (), generator=generator)), d_in, generator=generator)
        if held.room < len(keys):
            held.flush()
        held.stage(keys)
        if float(torch.rand((), generator=generator)) < 0.8:  # else the pass failed, and its keys do not count
            held.commit()
            everything.append(keys.double())
    expected = sum((keys.T @ keys for keys in everything), torch.zeros(d_in, d_in, dtype=torch.float64))
    total = held.total()
    assert total is not None
    assert float((total - expected).norm()) <= 1e-6 * float(expected.norm())
    assert torch.equal(total, total.T)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_merged_shares_are_the_result_of_one_process(size: int, loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sums", "measure"):
        monkeypatch.setattr(f"seqedit.moments.{module}.TOKENS", 40)  # else the sample is a single block, one rank's
    whole = measure(loaded)
    shares = [measure(loaded, share=(rank, size)) for rank in range(size)]
    merged = SecondMoments.merged(shares)
    assert merged.tokens == whole.tokens == 600
    assert max(s.tokens for s in shares) - min(s.tokens for s in shares) <= 80  # tokens of a block
    assert close(merged, whole, 1e-6)
    assert all(matrix.dtype == torch.float32 for matrix in merged.matrices.values())


def test_what_cannot_be_merged_is_refused() -> None:
    eye = SecondMoments({"a": torch.eye(3)}, 5)
    for parts, message in (
        ([], "no second moments to merge"),
        ([eye, SecondMoments({"b": torch.eye(3)}, 5)], "different modules"),
        ([eye, SecondMoments({"a": torch.eye(4)}, 5)], "different modules or sizes"),
        ([eye, SecondMoments({"a": torch.eye(3)})], "part 2 .* does not say how many tokens"),
        ([SecondMoments({"a": torch.zeros(3, 3)})], "no tokens"),
    ):
        with pytest.raises(InputError, match=message):
            SecondMoments.merged(parts)
    three = SecondMoments.merged([eye, SecondMoments({"a": 4 * torch.eye(3)}, 10)])
    torch.testing.assert_close(three.matrices["a"], 3 * torch.eye(3))
    assert three.tokens == 15


@pytest.mark.parametrize("share", [(1, 1), (-1, 2), (2, 2)])
def test_a_share_that_does_not_exist_is_refused(share: tuple[int, int], loaded: Any) -> None:
    with pytest.raises(InputError, match="a share is"):
        measure(loaded, share=share)


class Small:
    """Makes a model's forward pass fail above some rows, at a chosen depth, as a device that is too small does."""

    def __init__(self, model: Any, layer: int, rows: int, error: BaseException) -> None:
        self.failures = 0
        module = anatomy(model).projections[layer].module

        def hook(module: Any, args: tuple[Any, ...]) -> None:
            if args[0].reshape(-1, args[0].shape[-1]).shape[0] > 20 * rows:
                self.failures += 1
                raise error

        self.handle = module.register_forward_pre_hook(hook)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(("layer", "rows"), [(1, 3), (2, 1)])
def test_out_of_memory_halves_the_rows_and_counts_none_twice(
    error: BaseException, layer: int, rows: int, loaded: Any
) -> None:
    plain = measure(loaded, rows_per_batch=8)
    small = Small(loaded[0], layer, rows, error)
    try:
        found = measure(loaded, rows_per_batch=8)
    finally:
        small.handle.remove()
    assert small.failures == (2 if rows == 3 else 3), "8, 4, 2, 1 rows"
    assert found.tokens == plain.tokens
    assert close(found, plain, 1e-6)


def test_not_enough_memory_for_one_row_says_what_to_do(loaded: Any) -> None:
    measure(loaded)
    small = Small(loaded[0], 1, 0, ERRORS[0])
    try:
        with pytest.raises(EnvironmentFailure, match=r"one row of 20 tokens.*2.00 GiB.*fewer layers"):
            measure(loaded)
    finally:
        small.handle.remove()
    assert measure(loaded).tokens == 600, "the model is as it was"


def test_other_errors_of_a_forward_pass_are_not_taken_for_missing_memory(loaded: Any) -> None:
    small = Small(loaded[0], 1, 2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    try:
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            measure(loaded)
    finally:
        small.handle.remove()


def test_the_forward_pass_ends_before_the_last_module(loaded: Any) -> None:
    model, _ = loaded
    measure(loaded)
    projections = anatomy(model).projections
    ran: list[str] = []
    handles = [p.module.register_forward_hook(lambda m, a, o, n=p.name: ran.append(n)) for p in projections]
    measure(loaded, [0, 1], max_tokens=80)
    for handle in handles:
        handle.remove()
    assert set(ran) == {projections[0].name}


def test_keys_rounded_to_bfloat16_change_c0_far_less_than_another_sample_does(loaded: Any) -> None:
    exact, rounded = measure(loaded), measure(loaded, key_dtype=torch.bfloat16)
    half = measure(loaded, max_tokens=300)
    for name, matrix in exact.matrices.items():
        sampling = float((half.matrices[name] - matrix).norm())
        rounding = float((rounded.matrices[name] - matrix).norm())
        assert 0 < rounding < sampling / 50
        assert rounding < 1e-3 * float(matrix.norm())


@pytest.mark.parametrize(
    ("device", "dtype", "wanted"),
    [
        ("cuda", torch.bfloat16, "tf32"),
        ("cuda", torch.float16, "tf32"),
        ("cuda", torch.float32, None),
        ("cpu", torch.bfloat16, None),
    ],
)
def test_only_products_of_16_bit_keys_are_reduced_and_the_switch_is_put_back(
    device: str, dtype: torch.dtype, wanted: str | None
) -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    with reduced_products(torch.device(device), dtype):
        assert torch.backends.cuda.matmul.fp32_precision == (wanted or before)
    assert torch.backends.cuda.matmul.fp32_precision == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_keys_of_any_type_are_summed_without_rounding_them_further(dtype: torch.dtype) -> None:
    keys = torch.randn(500, 200, generator=torch.Generator().manual_seed(1)).to(dtype)
    held = MomentSum(500)
    held.stage(keys)
    held.commit()
    total, expected = held.total(), keys.double().T @ keys.double()
    assert total is not None
    assert float((total - expected).norm()) <= (1e-13 if dtype == torch.float64 else 1e-6) * float(expected.norm())


def test_fused_activations_compute_the_same_and_are_taken_out_again(reference_model: Any) -> None:
    model, tokenizer = reference_model
    modules = dict(model.named_modules())
    ids = torch.tensor(list(packed_rows(tokenizer, TEXTS, 20, 200)))
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with fused_activations(model) as replaced:
            fused = model(input_ids=ids).logits
    assert replaced == 6
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-4)
    assert dict(model.named_modules()) == modules


def test_rows_are_those_of_one_text_after_the_other(loaded: Any) -> None:
    _, tokenizer = loaded
    texts = [*TEXTS, " ", "word " * 3000, *TEXTS]
    ids: list[int] = []
    for text in texts:
        if text.strip():
            ids += tokenizer(text, verbose=False)["input_ids"]
            if ids[-1:] != [tokenizer.eos_token_id]:
                ids += [tokenizer.eos_token_id]
    rows = list(packed_rows(tokenizer, texts, 17, 10**9))
    assert rows == [ids[i : i + 17] for i in range(0, len(ids) // 17 * 17, 17)]
    assert list(packed_rows(tokenizer, texts, 17, 100)) == rows[:6]
    assert list(packed_rows(tokenizer, ["short"], 500, 100)) == [ids_of(tokenizer, "short")]


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]


def test_sample_size_counts_in_input_dimensions(reference_model: Any) -> None:
    projections = anatomy(reference_model[0]).projections_of([1, 2])
    assert sample_size(projections, 10) == 5120
    assert sample_size(projections, 0.5) == 256
    with pytest.raises(InputError, match="must be positive"):
        sample_size(projections, 0)


def test_a_failed_allocation_is_known_by_its_error() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_free_memory_is_what_the_machine_and_the_groups_limits_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = free_bytes("cpu")
    assert free is None or free > 2**20
    assert free_bytes("meta") is None
    group = tmp_path / "g"
    group.mkdir()
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("700\n")
    (group / "memory.stat").write_text("anon 400\ninactive_file 200\n")
    files = ("memory.max", "memory.current", "inactive_file")
    assert memory._left_in_group(group, *files) == 500
    (group / "memory.max").write_text("max\n")
    assert memory._left_in_group(group, *files) is None
    assert memory._left_in_group(tmp_path / "none", *files) is None
    monkeypatch.setattr(memory, "_available", lambda: 10**12)
    monkeypatch.setattr(memory, "_left_in_groups", lambda root: [None, 123])
    assert free_bytes("cpu") == 123


def test_the_buffer_holds_at_least_what_a_product_wants() -> None:
    assert MomentSum(10).room == seqedit.moments.sums.TOKENS
    assert MomentSum(10**5).room == 10**5
