"""Target values of the layers above the first edited one, by a forward pass (arXiv 2605.00358, forward replay).

A target value that was optimised at the first edited layer says what the other layers ought to produce as well: what
they do produce once the first one gives that value. So it takes the place of the first layer's output at the lookup
token of the bare prompt, and one pass upwards gives the others' values, which fit it and each other.
"""

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
from seqedit.text.lookup import tokenize_request


def replay(
    model: CausalLM,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    modules: Sequence[nn.Module],
    values: Tensor,
    *,
    max_tokens: int = 8192,
) -> list[Tensor]:
    """What modules put out at the lookup token of the bare prompts where the first of them puts out given values.

    Args:
        model: The causal LM in its current state.
        tokenizer: Its fast tokenizer.
        requests: n requests.
        modules: The modules whose outputs are target values, from the lowest layer's to the highest's.
        values: (n, d) target values of the first.
        max_tokens: Padded tokens of one forward pass.

    Returns:
        (n, d) values of every module, those of the first as given; float64 for the others.
    """
    prompts = [tokenize_request(tokenizer, request) for request in requests]
    sequences = [prompt.ids[: prompt.lookup + 1] for prompt in prompts]
    device = input_device(model)
    found: dict[nn.Module, list[Tensor]] = {module: [torch.empty(0)] * len(requests) for module in modules[1:]}
    batch: list[int] = []
    ids = torch.empty(0)

    def lookup(states: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(len(batch), device=states.device), torch.tensor(
            [prompts[i].lookup for i in batch], device=states.device
        )

    def inject(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        states = hidden_of(output)
        changed = by_token(states, ids)
        changed = changed.index_put(lookup(changed), values[batch].to(changed)).view_as(states)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states = by_token(hidden_of(output), ids)
        for i, value in zip(batch, states[lookup(states)].double(), strict=True):
            found[module][i] = value

    post = {modules[0]: inject, **dict.fromkeys(modules[1:], capture)}
    with torch.no_grad(), inference_state(model), hooks(post=post):
        for batch in token_budget_batches([len(s) for s in sequences], pass_tokens(device, max_tokens)):
            ids, mask = pad_right([sequences[i] for i in batch], device)
            run_until(model, modules[-1], ids, mask)
    return [values, *(torch.stack(found[module]) for module in modules[1:])]
