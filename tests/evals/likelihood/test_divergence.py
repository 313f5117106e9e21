"""KL to the unedited model on plain text."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import evals.likelihood.divergence as divergence
from evals.likelihood.divergence import score_divergence
from evals.likelihood.perplexity import score_perplexity
from seqedit.errors import InputError, NumericsError
from seqedit.models.edited import EditedModel

TEXTS = ["The sport of Bado Holul is rowing. " * 8, "Venxa Ulmigri competes in rowing. " * 5]


@pytest.fixture(params=["reference_model", "llama"])
def edited(request: pytest.FixtureRequest) -> EditedModel:
    """A model with one projection changed."""
    model, tokenizer = request.getfixturevalue(request.param)
    edited = EditedModel(copy.deepcopy(model), tokenizer)
    name = edited.parts.projections[1].name
    weight = edited.base_weights([name])[name]
    generator = torch.Generator().manual_seed(0)
    edited.write({name: weight + 0.05 * torch.randn(weight.shape, generator=generator)})
    return edited


def by_hand(edited: EditedModel, length: int) -> tuple[float, int]:
    """One window at a time, the distributions of both models in full."""
    tokenizer = edited.tokenizer
    first, second = (tokenizer(text)["input_ids"] for text in TEXTS)
    ids = [*first, tokenizer.eos_token_id, *second]
    total, count = 0.0, 0
    for start in range(0, len(ids), length):
        window = torch.tensor([ids[start : start + length]])
        if window.shape[1] < 2:
            continue
        with torch.no_grad():
            after = edited.model(window).logits[0, :-1].double().log_softmax(-1)
            with edited.unedited():
                before = edited.model(window).logits[0, :-1].double().log_softmax(-1)
        total += float((before.exp() * (before - after)).sum())
        count += len(before)
    return total / count, count


@pytest.mark.parametrize("length", [512, 32])
def test_it_is_the_mean_over_the_tokens_of_perplexity_of_the_full_divergence(edited: EditedModel, length: int) -> None:
    model, tokenizer = edited.model, edited.tokenizer
    expected, tokens = by_hand(edited, length)
    found = score_divergence(model, tokenizer, TEXTS, edited.unedited, length=length)
    assert found.kl == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-4
    assert found.tokens == tokens == score_perplexity(model, tokenizer, TEXTS, length=length).tokens


def test_it_is_zero_for_the_unedited_model(edited: EditedModel) -> None:
    edited.write({})
    assert score_divergence(edited.model, edited.tokenizer, TEXTS, edited.unedited).kl < 1e-12


def test_it_does_not_depend_on_the_batches_and_leaves_the_edit_in_place(
    edited: EditedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: tensor.clone() for name, tensor in edited.model.state_dict().items()}
    whole = score_divergence(edited.model, edited.tokenizer, TEXTS, edited.unedited, length=16)
    vocabulary = edited.model.config.vocab_size
    monkeypatch.setattr(divergence, "MAX_LOGITS", 20 * vocabulary)
    monkeypatch.setattr(divergence, "_CHUNK", 3 * vocabulary)
    passes: list[int] = []
    parts = score_divergence(
        edited.model, edited.tokenizer, TEXTS, edited.unedited, length=16, max_tokens_per_batch=16,
        progress=lambda done, total: passes.append(done),
    )  # fmt: skip
    assert parts.kl == pytest.approx(whole.kl, rel=1e-4)
    assert len(passes) > 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in edited.model.state_dict().items())


def test_windows_that_are_the_same_count_as_often_as_they_occur(edited: EditedModel) -> None:
    ids = edited.tokenizer(TEXTS[0])["input_ids"]
    period = ids.index(ids[2], 3) - 2  # the text says one sentence again and again
    found = score_divergence(edited.model, edited.tokenizer, TEXTS, edited.unedited, length=period)
    expected, tokens = by_hand(edited, period)
    assert found.kl == pytest.approx(expected, rel=1e-4)
    assert found.tokens == tokens


def test_a_token_that_both_models_bar_costs_nothing(model: Any, tokenizer: Any) -> None:
    class Barring(torch.nn.Module):
        def __init__(self, head: torch.nn.Module) -> None:
            super().__init__()
            self.head, self.weight = head, head.weight

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(hidden)
            return logits.index_fill(-1, torch.tensor([5]), -torch.inf)

    barred = copy.deepcopy(model)
    barred.lm_head = Barring(barred.lm_head)

    @contextmanager
    def unedited() -> Iterator[None]:
        yield

    assert score_divergence(barred, tokenizer, TEXTS, unedited).kl == 0.0


def test_a_broken_model_is_an_error_and_too_short_a_text_too(edited: EditedModel) -> None:
    with pytest.raises(InputError):
        score_divergence(edited.model, edited.tokenizer, [], edited.unedited)
    name = edited.parts.projections[1].name
    edited.write({name: torch.full_like(edited.base_weights([name])[name], torch.nan)})
    with pytest.raises(NumericsError, match="not finite"):
        score_divergence(edited.model, edited.tokenizer, TEXTS, edited.unedited)
