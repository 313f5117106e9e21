"""Likelihoods of continuations: exact, whatever shares a batch or a prefix."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evals.likelihood.batches import bucketed
from evals.likelihood.teacher_forcing import score_continuations
from seqedit.errors import InputError, ModelError

PAIRS = [
    ([5, 6, 7], [8]),
    ([5, 6, 7], [9]),
    ([5, 6, 7], [8, 10, 11]),
    ([5, 6], [7, 8]),
    ([100, 101, 102, 103, 104, 105], [106, 107]),
    ([3], [4]),
    ([5, 6, 7], [8]),
]


def naive(model: Any, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """One pair alone, without padding, over the full logits."""
    with torch.no_grad():
        logits = model(torch.tensor([context + continuation])).logits[0].float()
    logits = logits[len(context) - 1 : -1]
    targets = torch.tensor(continuation)
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return float(nll), bool((logits.argmax(-1) == targets).all())


@pytest.mark.parametrize("budget", [1, 7, 20, 4096])
@pytest.mark.parametrize("family", ["reference_model", "llama"])
def test_equals_one_pair_at_a_time_without_padding(family: str, budget: int, request: pytest.FixtureRequest) -> None:
    model, _ = request.getfixturevalue(family)
    scored = score_continuations(model, PAIRS, max_tokens_per_batch=budget)
    for (context, continuation), result in zip(PAIRS, scored, strict=True):
        nll, argmax = naive(model, context, continuation)
        assert result.nll == pytest.approx(nll, abs=2e-5)
        assert result.argmax == argmax
        assert result.tokens == len(continuation)
        assert result.mean_nll == pytest.approx(nll / len(continuation), abs=2e-5)


def test_argmax_needs_every_token_right(model: Any) -> None:
    with torch.no_grad():
        best = int(model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
        second = int(model(torch.tensor([[5, 6, 7, best]])).logits[0, -1].argmax())
        wrong = (best + 1) % 2048
        after_wrong = int(model(torch.tensor([[5, 6, 7, wrong]])).logits[0, -1].argmax())
    pairs = [[best, second], [best, (second + 1) % 2048], [wrong, after_wrong]]
    right, first_only, last_only = score_continuations(model, [([5, 6, 7], pair) for pair in pairs])
    assert (right.argmax, first_only.argmax, last_only.argmax) == (True, False, False)


def test_targets_of_one_token_share_one_row(model: Any) -> None:
    rows: list[tuple[int, int]] = []
    score_continuations(model, PAIRS[:4], progress=lambda done, total: rows.append((done, total)))
    # [5,6,7], [5,6,7] and [5,6]+[7] are all prefixes of [5,6,7,8,10].
    assert rows[-1] == (1, 1)


def test_lm_head_sees_only_scored_positions(model: Any) -> None:
    shapes = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape)))
    try:
        score_continuations(model, [([1, 2, 3, 4, 5], [6]), ([7, 8, 9], [10, 11])])
    finally:
        handle.remove()
    assert shapes[-1] == (1, 3, 2048)  # the ones before are the trial of whether rows can be packed
    assert len(shapes) == 6  # and one of how many positions there are


def test_model_mode_and_hooks_are_restored(model: Any) -> None:
    own = copy.deepcopy(model)
    own.train()
    own.transformer.h[2].eval()
    before = [module.training for module in own.modules()]
    score_continuations(own, PAIRS)
    assert [module.training for module in own.modules()] == before
    assert not own.get_output_embeddings()._forward_pre_hooks
    assert all(p.grad is None for p in own.parameters())


def test_model_is_restored_after_a_failure(model: Any) -> None:
    own = copy.deepcopy(model).train()
    with pytest.raises(IndexError):
        score_continuations(own, [([5000], [1])])
    assert own.training
    assert not own.get_output_embeddings()._forward_pre_hooks


def test_bfloat16_is_scored_in_float32(model: Any) -> None:
    half = copy.deepcopy(model).to(torch.bfloat16)
    full = score_continuations(model, PAIRS)
    rounded = score_continuations(half, PAIRS)
    assert [r.nll for r in rounded] == pytest.approx([f.nll for f in full], rel=0.05, abs=0.5)
    # bfloat16 keeps 8 bits; the value of one token computed in it would be representable in it.
    values = [r.nll for r in rounded if r.tokens == 1]
    assert any(v != float(torch.tensor(v).bfloat16()) for v in values)


def test_peft_model_scores_like_the_merged_one(model: Any) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=["transformer.h.2.mlp.c_proj"], r=2, fan_in_fan_out=True)
    wrapped = get_peft_model(copy.deepcopy(model), config)
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted = [r.nll for r in score_continuations(wrapped, PAIRS)]
    merged = wrapped.merge_and_unload()
    assert adapted == pytest.approx([r.nll for r in score_continuations(merged, PAIRS)], abs=1e-4)
    assert adapted != pytest.approx([r.nll for r in score_continuations(model, PAIRS)], abs=1e-3)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (([], [1]), "context has no tokens"),
        (([1], []), "continuation has no tokens"),
        (([1] * 128, [2, 3]), "129 tokens"),
    ],
)
def test_unusable_pairs_are_named(model: Any, pair: tuple[list[int], list[int]], message: str) -> None:
    with pytest.raises(InputError, match=f"pair 1: .*{message}"):
        score_continuations(model, [([1], [2]), pair])


def test_longest_context_that_fits_is_scored(model: Any) -> None:
    assert score_continuations(model, [([1] * 128, [2])])[0].nll > 0


def test_model_without_lm_head_is_refused(model: Any) -> None:
    with pytest.raises(ModelError, match="no LM head"):
        score_continuations(model.transformer, PAIRS)


def test_nothing_to_score_is_an_empty_list(model: Any) -> None:
    assert score_continuations(model, []) == []


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), max_size=20), st.integers(1, 30))
def test_batches_hold_every_row_once_within_the_budget(rows: list[tuple[int, int]], budget: int) -> None:
    lengths, scored = [r[0] for r in rows], [r[1] for r in rows]
    batches = list(bucketed(lengths, scored, budget, 6))
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    for batch in batches:
        if len(batch) > 1:
            assert len(batch) * max(lengths[i] for i in batch) <= budget
            assert sum(scored[i] for i in batch) <= 6
