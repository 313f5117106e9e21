"""Keys, second moments, target values and replay: what is measured does not depend on how it is batched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.forward.batching import pad_right, token_budget_batches
from seqedit.keys.measure import measure_keys, measure_outputs
from seqedit.keys.templates import sample_context_templates
from seqedit.models.anatomy import anatomy
from seqedit.models.partial_run import logits_above, run_to_layer
from seqedit.moments.measure import compute_second_moments, packed_rows
from seqedit.moments.second_moments import SecondMoments, shrink
from seqedit.moments.store import cached_second_moments, read_second_moments, write_second_moments
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.values import optimise_target_values
from seqedit.text.lookup import tokenize_request
from seqedit.text.plain_text import TextSource

REQUESTS = [
    Request("Venxa Ulmigri", "{} professionally plays the sport of", "golf"),
    Request("Bado Holul", "The sport of {} is", "rowing"),
    Request("Bribri Drabazor", "It is well known that the sport of {} is", "water polo"),
    Request("X", "{} is", "golf"),
]
CONTEXTS = [["{}"], ["It rained. {}", "Because of the rain the game stopped. {}"]]


@pytest.fixture(params=["reference_model", "llama"])
def loaded(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    found: tuple[Any, Any] = request.getfixturevalue(request.param)
    return found


def plain_inputs(model: Any, module: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach()))
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    handle.remove()
    return seen[0][0]


def test_keys_are_the_plain_forwards_inputs_averaged_with_half_the_weight_on_the_bare_prompt(loaded: Any) -> None:
    model, tokenizer = loaded
    parts = anatomy(model)
    keys = measure_keys(model, parts, tokenizer, REQUESTS, CONTEXTS, [0, 2], max_tokens=40)
    for layer in (0, 2):
        for i, request in enumerate(REQUESTS):
            one = []
            for context in ("{}", *CONTEXTS[1]):
                prompt = tokenize_request(tokenizer, request, context)
                one.append(plain_inputs(model, parts.projections[layer].module, list(prompt.ids))[prompt.lookup])
            expected = 0.5 * one[0] + 0.25 * one[1] + 0.25 * one[2]
            torch.testing.assert_close(keys[layer][i].float(), expected, rtol=1e-4, atol=1e-5)


def test_keys_and_hidden_states_do_not_depend_on_batch_size_or_padding_side(loaded: Any) -> None:
    model, tokenizer = loaded
    parts = anatomy(model)
    side = tokenizer.padding_side
    results = []
    for padding_side, budget in (("right", 16), ("left", 4096)):
        tokenizer.padding_side = padding_side
        keys = measure_keys(model, parts, tokenizer, REQUESTS, CONTEXTS, [1], max_tokens=budget)[1]
        hidden = measure_outputs(model, tokenizer, REQUESTS, parts.layers[1], max_tokens=budget)
        results.append((keys, hidden))
    tokenizer.padding_side = side
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


def test_replaying_only_the_upper_layers_gives_the_logits_of_the_whole_model(loaded: Any) -> None:
    model, tokenizer = loaded
    parts = anatomy(model)
    prompts = [tokenize_request(tokenizer, r).ids for r in REQUESTS]
    ids, mask = pad_right(prompts, torch.device("cpu"))
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    rows, last = torch.arange(len(prompts)), torch.tensor([len(p) - 1 for p in prompts])
    for layer in range(len(parts.layers)):
        cut = run_to_layer(parts, layer, ids, mask)
        with torch.no_grad():
            found = logits_above(model, parts, cut, cut.hidden, rows, last)
        torch.testing.assert_close(found, whole[rows, last], rtol=1e-5, atol=1e-5)
    assert all("forward" not in layer.__dict__ for layer in parts.layers), "a replaced forward was left behind"


def test_target_values_of_a_batch_are_those_of_each_request_alone(loaded: Any) -> None:
    model, tokenizer = loaded
    parts = anatomy(model)
    config = TargetValueConfig(steps=6, learning_rate=0.05, weight_decay=0.1)
    batch = optimise_target_values(model, parts, tokenizer, REQUESTS, CONTEXTS, 1, config)
    for i, request in enumerate(REQUESTS):
        alone = optimise_target_values(model, parts, tokenizer, [request], CONTEXTS, 1, config)
        torch.testing.assert_close(batch.values[i], alone.values[0], rtol=1e-4, atol=1e-4)
    small = optimise_target_values(model, parts, tokenizer, REQUESTS, CONTEXTS, 1, config, max_tokens=64)
    torch.testing.assert_close(batch.values, small.values, rtol=1e-4, atol=1e-4)


def test_the_optimisation_lowers_the_loss_and_stays_inside_the_clamp(loaded: Any) -> None:
    model, tokenizer = loaded
    parts = anatomy(model)
    grads = [p.requires_grad for p in model.parameters()]
    first = optimise_target_values(model, parts, tokenizer, REQUESTS, CONTEXTS, 1, TargetValueConfig(steps=1))
    assert first.updates == (0, 0, 0, 0), "the last step only looks at the loss"
    torch.testing.assert_close(first.values, first.initial)
    config = TargetValueConfig(steps=15, learning_rate=0.1, clamp_norm_factor=0.75, weight_decay=0.0, kl_factor=0.0)
    found = optimise_target_values(model, parts, tokenizer, REQUESTS, CONTEXTS, 1, config)
    moved = [i for i, updates in enumerate(found.updates) if updates]
    assert len(moved) >= 3
    assert all(found.losses[i] < first.losses[i] for i in moved)
    ratio = (found.values - found.initial).norm(dim=1) / found.initial.norm(dim=1)
    assert float(ratio.max()) <= 0.75 + 1e-5
    assert [p.requires_grad for p in model.parameters()] == grads
    assert all(p.grad is None for p in model.parameters())


def test_a_request_that_has_converged_is_left_alone(reference_model: Any) -> None:
    model, tokenizer = reference_model
    known = Request("Venxa Ulmigri", "{} professionally plays the sport of", "rowing")  # what the model says anyway
    config = TargetValueConfig(steps=10, learning_rate=0.5, kl_factor=0.0, weight_decay=0.0)
    found = optimise_target_values(model, anatomy(model), tokenizer, [known, REQUESTS[0]], [["{}"]], 2, config)
    assert found.updates[0] == 0
    assert found.updates[1] > 0
    torch.testing.assert_close(found.values[0], found.initial[0])


def test_context_templates_are_seeded_and_well_formed(loaded: Any) -> None:
    model, tokenizer = loaded
    first = sample_context_templates(model, tokenizer, seed=3)
    assert first == sample_context_templates(model, tokenizer, seed=3)
    assert first != sample_context_templates(model, tokenizer, seed=4)
    assert first[0] == ("{}",)
    assert len(first[1]) == 5
    assert all(template.count("{}") == 1 and template.endswith(". {}") for template in first[1])


TEXTS = [f"Number {i} is a fact about the town of Lyon and about golf." for i in range(40)]


def test_second_moments_are_the_mean_outer_product_of_the_keys(loaded: Any) -> None:
    model, tokenizer = loaded
    projections = anatomy(model).projections_of([0, 2])
    found = compute_second_moments(
        model, tokenizer, projections, TEXTS, max_tokens=200, sequence_length=20, rows_per_batch=3
    )
    rows = list(packed_rows(tokenizer, TEXTS, 20, 200))
    assert found.tokens == 200 == sum(map(len, rows))
    for projection in projections:
        keys = torch.cat([plain_inputs(model, projection.module, row) for row in rows]).double()
        expected = keys.T @ keys / 200
        torch.testing.assert_close(found.matrices[projection.name].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_cache_is_used_again_and_depends_on_text_and_settings(reference_model: Any, tmp_path: Path) -> None:
    model, tokenizer = reference_model
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXTS))
    projections = anatomy(model).projections_of([1, 2])
    cache = tmp_path / "cache"

    def get(**changes: Any) -> SecondMoments:
        settings = {"max_tokens": 100, "sequence_length": 20, "cache_dir": cache, **changes}
        return cached_second_moments(model, tokenizer, "f" * 64, projections, TextSource(str(text)), **settings)

    first = get()
    files = {p: p.stat().st_mtime_ns for p in cache.rglob("*.safetensors")}
    assert len(files) == 2
    assert get().digest == first.digest
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.safetensors")} == files, "it was computed again"
    assert get(max_tokens=200).digest != first.digest
    text.write_text("\n".join(TEXTS[::-1]))
    assert get().digest != first.digest
    damaged = next(iter(files))
    damaged.write_bytes(b"damaged")
    text.write_text("\n".join(TEXTS))
    assert get().digest == first.digest, "a damaged cache file was not recomputed"


def test_second_moments_survive_the_way_to_disk_and_misfits_are_named(reference_model: Any, tmp_path: Path) -> None:
    model, _ = reference_model
    projections = anatomy(model).projections_of([1])
    write_second_moments(tmp_path / "m.safetensors", SecondMoments({projections[0].name: torch.eye(512)}, 7))
    found = read_second_moments(tmp_path / "m.safetensors")
    assert found.tokens == 7
    found.require(projections)
    with pytest.raises(InputError, match=r"no matrix for 'transformer\.h\.2\.mlp\.c_proj'"):
        found.require(anatomy(model).projections_of([2]))
    with pytest.raises(InputError, match=r"shape \(3, 3\), the model needs \(512, 512\)"):
        SecondMoments({projections[0].name: torch.eye(3)}).require(projections)
    (tmp_path / "x").write_text("no")
    with pytest.raises(InputError, match="not readable as second moments"):
        read_second_moments(tmp_path / "x")


def test_text_without_tokens_is_refused(reference_model: Any) -> None:
    model, tokenizer = reference_model
    with pytest.raises(InputError, match="no tokens"):
        compute_second_moments(model, tokenizer, anatomy(model).projections_of([1]), ["", " "])


def test_shrinkage_keeps_the_trace_and_ends_at_the_scaled_identity() -> None:
    C = torch.diag(torch.tensor([1.0, 3.0])) + 0.5
    assert torch.equal(shrink(C, 0.0), C)
    torch.testing.assert_close(shrink(C, 0.3).trace(), C.trace())
    torch.testing.assert_close(shrink(C, 1.0), 2.5 * torch.eye(2))


def test_batches_stay_within_the_token_budget_and_lose_nothing() -> None:
    lengths = [5, 1, 9, 3, 3, 20]
    batches = list(token_budget_batches(lengths, 10))
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 10 for b in batches)
