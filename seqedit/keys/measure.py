"""Keys: the inputs of the FFN output projections at the lookup token; and the hidden states that follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.facts.requests import Request
from seqedit.forward.access import input_device
from seqedit.forward.batching import pad_right, pass_tokens, token_budget_batches
from seqedit.forward.hooks import by_token, hidden_of, hooks, inference_state, run_until
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import Anatomy
from seqedit.text.lookup import BARE, tokenize_request

MAX_TOKENS = 16_384
"""Padded tokens of one forward pass when nothing else is asked for."""


def measure_keys(
    model: CausalLM,
    parts: Anatomy,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    contexts: Sequence[Sequence[str]],
    layers: Sequence[int],
    *,
    max_tokens: int = MAX_TOKENS,
) -> dict[int, Tensor]:
    """Averaged keys of some requests at some layers, from one pass over the prompts.

    The mean is taken within each group of context templates and then over the groups (MEMIT, eq. 19, with the
    groups of the public implementation): with [["{}"], [generated...]] the bare prompt weighs 1/2.

    Args:
        model: The causal LM.
        parts: Its anatomy.
        tokenizer: Its fast tokenizer.
        requests: n requests.
        contexts: Groups of context templates.
        layers: Layers to measure at.
        max_tokens: Most padded tokens of one forward pass.

    Returns:
        Layer -> (n, d_in) float64 on the device of that layer's projection.
    """
    layers = parts.check_layers(layers)
    flat = [(c, 1.0 / (len(contexts) * len(group))) for group in contexts for c in group]
    jobs = [(i, weight, tokenize_request(tokenizer, r, c)) for i, r in enumerate(requests) for c, weight in flat]
    # Nothing after the lookup token reaches back to it.
    sequences = [prompt.ids[: prompt.lookup + 1] for _, _, prompt in jobs]
    seen: dict[int, Tensor] = {}
    sums: dict[int, Tensor] = {}

    def capture(layer: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            seen[layer] = args[0].detach()

        return hook

    pre = {parts.projections[layer].module: capture(layer) for layer in layers}
    last = parts.projections[layers[-1]].module
    limit = pass_tokens(input_device(model), max_tokens)
    with torch.no_grad(), inference_state(model), hooks(pre=pre):
        for batch in token_budget_batches([len(s) for s in sequences], limit):
            ids, mask = pad_right([sequences[j] for j in batch], input_device(model))
            run_until(model, last, ids, mask)
            for layer in layers:
                inputs = by_token(seen[layer], ids)
                device = inputs.device
                at = torch.tensor([jobs[j][2].lookup for j in batch], device=device)
                keys = inputs[torch.arange(len(batch), device=device), at].double()
                weights = torch.tensor([jobs[j][1] for j in batch], dtype=torch.float64, device=device)
                rows = torch.tensor([jobs[j][0] for j in batch], device=device)
                total = sums.setdefault(
                    layer, torch.zeros(len(requests), keys.shape[1], dtype=torch.float64, device=device)
                )
                total.index_add_(0, rows, keys * weights.unsqueeze(1))
    return sums


def measure_outputs(
    model: CausalLM,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    module: nn.Module,
    *,
    max_tokens: int = MAX_TOKENS,
) -> Tensor:
    """Outputs of a module (a layer, a projection) at the lookup token of the bare prompts.

    Returns:
        (n, d) float64 on the device of the module.
    """
    prompts = [tokenize_request(tokenizer, r, BARE) for r in requests]
    sequences = [p.ids[: p.lookup + 1] for p in prompts]
    seen: list[Tensor] = []
    result: Tensor | None = None

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(hidden_of(output).detach())

    limit = pass_tokens(input_device(model), max_tokens)
    with torch.no_grad(), inference_state(model), hooks(post={module: hook}):
        for batch in token_budget_batches([len(s) for s in sequences], limit):
            ids, mask = pad_right([sequences[j] for j in batch], input_device(model))
            run_until(model, module, ids, mask)
            hidden = by_token(seen.pop(), ids)
            at = torch.tensor([prompts[j].lookup for j in batch], device=hidden.device)
            if result is None:
                result = torch.zeros(len(requests), hidden.shape[2], dtype=torch.float64, device=hidden.device)
            result[torch.tensor(batch, device=hidden.device)] = hidden[
                torch.arange(len(batch), device=hidden.device), at
            ].double()
    assert result is not None
    return result
