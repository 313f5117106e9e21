"""What the methods that train weights share: the loss of a batch's targets, and the record they leave behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqedit.errors import NumericsError
from seqedit.facts.requests import Request
from seqedit.forward.access import input_device
from seqedit.forward.batching import pad_right, token_budget_batches
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.keys.measure import measure_keys, measure_outputs
from seqedit.methods.interface import LayerUpdate, Update, Workbench
from seqedit.models.anatomy import Projection
from seqedit.support.progress import progress_bar
from seqedit.text.lookup import Prompt, tokenize_request


def target_prompts(tokenizer: Tokenizer, requests: Sequence[Request]) -> list[Prompt]:
    """The bare prompts with their targets."""
    return [tokenize_request(tokenizer, request, with_target=True) for request in requests]


def target_losses(model: CausalLM, prompts: Sequence[Prompt]) -> Tensor:
    """Negative log-likelihood of each prompt's target, the mean over its tokens.

    Returns:
        (n,) float32 or wider, with a graph to whatever asks for gradients.
    """
    ids, mask = pad_right([prompt.ids for prompt in prompts], input_device(model))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    rows = [row for row, prompt in enumerate(prompts) for _ in prompt.target_ids]
    places = [prompt.target_start + i for prompt in prompts for i in range(len(prompt.target_ids))]
    targets = torch.tensor([token for prompt in prompts for token in prompt.target_ids], device=logits.device)
    wanted = logits[torch.tensor(rows, device=logits.device), torch.tensor(places, device=logits.device)]
    losses = F.cross_entropy(wanted.to(torch.promote_types(wanted.dtype, torch.float32)), targets, reduction="none")
    lengths = torch.tensor([len(prompt.target_ids) for prompt in prompts], device=losses.device)
    sums = torch.zeros(len(prompts), dtype=losses.dtype, device=losses.device)
    return sums.index_add(0, torch.tensor(rows, device=losses.device), losses) / lengths


def losses_of(model: CausalLM, prompts: Sequence[Prompt], *, max_tokens: int = 8192) -> list[float]:
    """`target_losses` of any number of prompts, without a graph."""
    losses = [0.0] * len(prompts)
    with torch.no_grad():
        for batch in token_budget_batches([len(p.ids) for p in prompts], max_tokens):
            for index, loss in zip(batch, target_losses(model, [prompts[i] for i in batch]).tolist(), strict=True):
                losses[index] = loss
    return losses


def train(
    model: CausalLM,
    prompts: Sequence[Prompt],
    step: Callable[[Tensor], None],
    *,
    steps: int,
    batch_size: int,
    stop_below: float,
    label: str,
) -> tuple[list[float], int]:
    """Passes over the requests until their mean loss is small.

    A chunk whose loss is small already takes no step, and the last pass over all of them ends the training when the
    mean is small (the public fine-tuning baseline of ROME and MEMIT).

    Args:
        model: The causal LM.
        prompts: The batch.
        step: Takes a chunk's mean loss and updates the weights.
        steps: At most this many passes.
        batch_size: Requests per update.
        stop_below: What is small.
        label: Of the progress bar.

    Returns:
        The last loss of each request, and the number of updates.

    Raises:
        NumericsError: a loss is not finite.
    """
    last, updates = [math.inf] * len(prompts), 0
    with progress_bar(label, total=steps) as bar:
        for _ in range(steps):
            for start in range(0, len(prompts), batch_size):
                losses = target_losses(model, prompts[start : start + batch_size])
                last[start : start + batch_size] = losses.tolist()
                if not all(map(math.isfinite, last[start : start + batch_size])):
                    raise NumericsError("the loss is not finite; lower learning_rate")
                loss = losses.mean()
                if loss.item() >= stop_below:
                    step(loss)
                    updates += 1
            bar.advance(1)
            if sum(last) / len(last) < stop_below:
                break
    return last, updates


def trained_update(
    bench: Workbench,
    requests: Sequence[Request],
    layers: Sequence[int],
    deltas: Sequence[tuple[Tensor, Tensor] | Tensor],
    losses: Sequence[float],
    updates: int,
    provenance: dict[str, Any] | None = None,
) -> Update:
    """What a trained batch leaves behind, measured on the edited model.

    The keys let later closed-form edits protect this one; the hidden states stand where target values would.

    Args:
        bench: The model, with the update written to it.
        requests: n requests.
        layers: Edited layers, in order.
        deltas: Their updates.
        losses: Last loss of each request.
        updates: Updates that were made.
        provenance: What else to record.
    """
    keys = measure_keys(
        bench.model, bench.parts, bench.tokenizer, requests, bench.contexts, layers, max_tokens=bench.max_tokens
    )
    reached = measure_outputs(
        bench.model, bench.tokenizer, requests, bench.parts.layers[layers[-1]], max_tokens=bench.max_tokens
    )
    projections: list[Projection] = bench.parts.projections_of(layers)
    return Update(
        tuple(LayerUpdate(p, d, keys[layer]) for p, d, layer in zip(projections, deltas, layers, strict=True)),
        reached,
        tuple(losses),
        (updates,) * len(requests),
        provenance=provenance or {},
    )
