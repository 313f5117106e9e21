"""What makes edits fast changes nothing in them: fixed keys and values, pruning, grouping, measuring once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqedit.editing.compute import add_to_weight
from seqedit.errors import EnvironmentFailure
from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_keys, measure_outputs
from seqedit.keys.walk import KeyWalk
from seqedit.models.anatomy import Anatomy, anatomy
from seqedit.support.memory import in_memory
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.groups import PASS_TOKENS, _cheapest_cuts, group_units
from seqedit.targets.sites import LayerOutput, Sublayers
from seqedit.targets.values import TargetValues, optimise_target_values
from seqedit.text.lookup import Prompt, tokenize_request
from tests.models.architectures import CONTEXTS, EDITED, LAYER, REQUESTS, build, load_tokenizer, relative

RUN_WHOLE = {
    "Bamba", "Falcon-H1", "Granite 4 (hybrid)", "Jamba", "LFM2", "LFM2-MoE", "MPT", "Nemotron-H", "Qwen3-Next",
    "Qwen3.5, text", "RWKV", "RecurrentGemma",
}  # fmt: skip
"""Families that cannot go on from fixed keys and values: earlier tokens also act through a recurrent state or a
convolution, or the cache is made of whole rows only."""
CONFIG = TargetValueConfig(steps=8, learning_rate=0.1, kl_factor=0.5, weight_decay=0.1)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer()


@pytest.fixture(scope="module")
def built() -> Callable[[str, torch.dtype], Any]:
    models: dict[tuple[str, torch.dtype], Any] = {}

    def get(family: str, dtype: torch.dtype) -> Any:
        if (family, dtype) not in models:
            models[family, dtype] = build(family, dtype)
        return models[family, dtype]

    return get


def find(model: Any, tokenizer: Any, site: Any = LayerOutput, layer: int = LAYER, **options: Any) -> TargetValues:
    parts = anatomy(model)
    return optimise_target_values(
        model, parts, tokenizer, REQUESTS, CONTEXTS, layer, CONFIG, site=site(parts, layer), **options
    )


def runs(model: Any) -> bool:
    try:
        with torch.no_grad():
            model(input_ids=torch.tensor([[3, 4, 5]]))
    except RuntimeError as error:
        if "Double" in str(error) or "overflow" in str(error):
            return False
        raise
    return True


@pytest.mark.parametrize("family", EDITED)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-3), (torch.float64, 1e-5)])
def test_target_values_from_the_lookup_token_on_are_those_of_whole_rows(
    family: str, dtype: torch.dtype, bound: float, tokenizer: Any, built: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family in ("Gemma 2", "VaultGemma") and dtype == torch.float64:
        pytest.skip("transformers overflows its mask in float64 for eager attention with a sliding window")
    model = built(family, dtype)
    if dtype == torch.float64 and not runs(model):
        pytest.skip("transformers does not run it in float64 (grouped products of experts, a mask's constant)")
    parts = anatomy(model)
    assert parts.continues == (family not in RUN_WHOLE), "what is run whole is slower, and said"
    if family in RUN_WHOLE:
        return  # nothing is left out, so there is nothing to compare
    # Where upper layers share the keys and values of layers 0 and 1, later tokens read nothing of layer 1's output.
    layer = 0 if family == "Gemma 4, shared keys" else LAYER
    fast = {site: find(model, tokenizer, site, layer) for site in (LayerOutput, Sublayers)}
    monkeypatch.setattr(Anatomy, "continues", False)
    monkeypatch.setattr(Anatomy, "last_ffn", None)
    for site, found in fast.items():
        plain = find(model, tokenizer, site, layer)
        assert relative(found.values, plain.values) < bound
        assert found.updates == plain.updates


def test_only_tokens_from_the_lookup_token_on_are_run(tokenizer: Any, built: Any) -> None:
    model = built("Llama", torch.float32)
    parts = anatomy(model)
    seen: list[torch.Size] = []
    handle = parts.projections[LAYER + 1].module.register_forward_hook(lambda m, a, output: seen.append(output.shape))
    try:
        find(model, tokenizer)
    finally:
        handle.remove()
    widest = max(shape[1] for shape in seen)
    # The first passes see whole rows; what every step runs is short, and the last layer's only the positions asked for.
    steps = [shape for shape in seen if shape[1] < widest]
    assert len(steps) > 2 * CONFIG.steps - 2
    assert parts.continues


def test_a_row_longer_than_the_attention_window_is_run_whole(tokenizer: Any, built: Any) -> None:
    model = copy.deepcopy(built("Mistral, sliding window", torch.float32))
    expected = find(model, tokenizer)
    parts = anatomy(model)
    assert LayerOutput(parts, LAYER).cut([[1] * 14], [3]).past is None
    short = LayerOutput(parts, LAYER).cut([[1] * 9], [3])
    assert short.past is not None
    assert short.input_ids.shape == (1, 6)
    assert torch.isfinite(expected.values).all()


def test_a_model_that_ignores_positions_is_found_out(built: Any) -> None:
    model = copy.deepcopy(built("Llama", torch.float32))
    assert anatomy(model).continues
    forward = model.forward

    def without_positions(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    model.forward = without_positions
    assert not anatomy(model).continues


def test_a_model_without_a_cache_is_found_out(built: Any) -> None:
    model = copy.deepcopy(built("Llama", torch.float32))
    forward = model.forward

    def without_cache(input_ids: Any, attention_mask: Any, use_cache: bool = False) -> Any:
        return forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    model.forward = without_cache
    assert not anatomy(model).continues


def prompt(length: int, lookup: int) -> Prompt:
    return Prompt(tuple(range(length)), lookup, (1,), length - 1)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 20)), min_size=1, max_size=30), st.integers(20, 400))
@settings(max_examples=60, deadline=None)
def test_groups_hold_every_unit_once_within_the_budget(shapes: list[tuple[int, int]], budget: int) -> None:
    prompts = [[prompt(after + lookup, lookup)] * 2 for after, lookup in shapes]
    groups = group_units(prompts, [[i] for i in range(len(prompts))], budget)
    assert sorted(i for group in groups for unit in group for i in unit) == list(range(len(prompts)))
    for group in groups:
        rows = [p for unit in group for i in unit for p in prompts[i]]
        assert len(group) == 1 or len(rows) * max(len(p.ids) for p in rows) <= budget


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.lists(st.integers(1, 60), min_size=9, max_size=9))
@settings(max_examples=60, deadline=None)
def test_no_other_cut_of_the_groups_needs_fewer_tokens(widths: list[int], rows: list[int]) -> None:
    widths = sorted(widths)

    def cost(ranges: Sequence[tuple[int, int]]) -> int:
        return sum(PASS_TOKENS + widths[b - 1] * sum(rows[a:b]) for a, b in ranges)

    found = cost(_cheapest_cuts(widths, rows[: len(widths)]))
    for chosen in range(2 ** (len(widths) - 1)):
        ends = [i + 1 for i in range(len(widths) - 1) if chosen >> i & 1] + [len(widths)]
        assert found <= cost(list(zip([0, *ends[:-1]], ends, strict=True)))


def test_running_out_of_memory_halves_the_work_and_loses_nothing() -> None:
    sizes: list[int] = []

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return [item * 2 for item in items]

    assert in_memory(work, list(range(10)), [1] * 10, "cpu") == [2 * i for i in range(10)]
    assert max(size for size in sizes if size <= 3) > 1
    huge = 10**18
    sizes.clear()
    assert in_memory(work, [1, 2], [huge, huge], "cpu") == [2, 4]
    assert sizes == [1, 1], "a part that cannot fit is not even tried"


def test_a_single_item_that_does_not_fit_is_an_error_and_other_errors_pass() -> None:
    def never(items: list[int]) -> list[int]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(EnvironmentFailure, match="out of memory on cpu"):
        in_memory(never, [1, 2], [1, 1], "cpu")

    def wrong(items: list[int]) -> list[int]:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        in_memory(wrong, [1, 2], [1, 1], "cpu")


def test_target_values_in_halves_are_those_of_the_whole_group(
    tokenizer: Any, built: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built("GPT-2", torch.float64)
    whole = find(model, tokenizer)
    monkeypatch.setattr("seqedit.support.memory.free_bytes", lambda device: 1)
    torch.testing.assert_close(find(model, tokenizer).values, whole.values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("following", [False, True])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("family", ["GPT-2", "GPT-J", "Llama", "OPT", "Gemma 2"])
def test_a_walk_measures_what_each_layer_would_anew(
    family: str, keep: bool, following: bool, tokenizer: Any, built: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not keep:
        monkeypatch.setattr("seqedit.keys.walk.free_bytes", lambda device: 0)
    model = copy.deepcopy(built(family, torch.float32))
    parts = anatomy(model)
    random = torch.Generator().manual_seed(0)
    module = LayerOutput(parts, 2).value_module()
    walk = KeyWalk(model, parts, tokenizer, REQUESTS, CONTEXTS, module, following=following, max_tokens=64)
    for layer in (0, 1, 2):
        found = walk.at(layer)
        expected = measure_keys(model, parts, tokenizer, REQUESTS, CONTEXTS, [layer])[layer]
        torch.testing.assert_close(found.keys, expected, rtol=1e-4, atol=1e-5)
        outputs = measure_outputs(model, tokenizer, REQUESTS, module)
        torch.testing.assert_close(found.outputs, outputs, rtol=1e-4, atol=1e-4)
        if following:
            alone = [_following(model, parts, tokenizer, i, layer) for i in range(len(REQUESTS))]
            assert found.following is not None
            torch.testing.assert_close(found.following, torch.cat(alone), rtol=1e-4, atol=1e-5)
        projection = parts.projections[layer]
        change = torch.randn(projection.matrix().shape, generator=random, dtype=torch.float64) * 0.05
        add_to_weight(projection, projection.matrix().clone(), change)
    with pytest.raises(ValueError, match="not above layer 2"):
        walk.at(1)


def _following(model: Any, parts: Anatomy, tokenizer: Any, number: int, layer: int) -> Tensor:
    prompt = tokenize_request(tokenizer, REQUESTS[number])
    seen: list[Tensor] = []
    handle = parts.projections[layer].module.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    try:
        with torch.no_grad():
            model(input_ids=torch.tensor([prompt.ids]))
    finally:
        handle.remove()
    return seen[0].reshape(len(prompt.ids), -1)[prompt.lookup + 1 :].double()


def test_a_walk_runs_no_prefix_twice(tokenizer: Any, built: Any) -> None:
    model = built("Llama", torch.float32)
    parts = anatomy(model)
    tokens = 0

    def count(module: Any, args: Any) -> None:
        nonlocal tokens
        tokens += args[0].shape[0] * args[0].shape[1]

    handle = parts.projections[LAYER].module.register_forward_pre_hook(count)
    requests = [Request(f"{r.subject}{more}", r.prompt, r.target_new) for r in REQUESTS for more in ("", " II", " III")]
    try:
        KeyWalk(model, parts, tokenizer, requests, CONTEXTS, parts.layers[LAYER]).at(LAYER)
    finally:
        handle.remove()
    prompts = [tokenize_request(tokenizer, r, c) for r in requests for group in CONTEXTS for c in group]
    rows = [p.ids[: p.lookup + 1] for p in prompts]
    assert tokens < 0.5 * sum(map(len, rows))
