"""Seeded sampling from a causal language model, in batches whose make-up does not change the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from seqedit.errors import InputError
from seqedit.forward.access import accepts, end_token_ids, evaluating, input_device, position_limit
from seqedit.forward.finite import check_logits
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.support.shares import WHOLE, ProcessShare
from seqedit.text.tokenization import encode


def generate(
    model: CausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 100,
    seed: int = 0,
    top_k: int = 5,
    batch_size: int = 16,
    finished: Callable[[str], bool] | None = None,
) -> list[str]:
    """Continue prompts by top-k sampling (ROME and MEMIT use k = 5; k = 1 is greedy decoding).

    The random numbers are drawn per prompt beforehand, so a prompt's text depends on the seed and its place
    in the list, not on the prompts it shares a batch with.

    Args:
        model: A causal language model; left as it was.
        tokenizer: Its fast tokenizer.
        prompts: Texts to continue.
        max_new_tokens: Most new tokens; a text also ends at an end token and at the model's last position.
        seed: Seed of all draws.
        top_k: How many of the likeliest tokens are drawn from, in proportion to their probabilities.
        batch_size: Prompts per batch.
        finished: Told a text so far after every token; the text ends with the token after which it says yes.

    Returns:
        The new text of each prompt, without the prompt and without special tokens.

    Raises:
        InputError: if a number is not positive, or a prompt has no tokens or more than the model's positions.
        NumericsError: if the model's logits are not finite.
    """
    texts = generate_share(
        model, tokenizer, prompts, WHOLE,
        max_new_tokens=max_new_tokens, seed=seed, top_k=top_k, batch_size=batch_size, finished=finished,
    )  # fmt: skip
    return [texts[i] for i in range(len(prompts))]


class Generator(Protocol):
    """`generate` without its ``finished``, or what does the same in another place, as on several processes."""

    def __call__(
        self,
        model: CausalLM,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 100,
        seed: int = 0,
        top_k: int = 5,
        batch_size: int = 16,
    ) -> list[str]:
        """As `generate`."""


def generate_share(
    model: CausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    share: ProcessShare,
    *,
    max_new_tokens: int = 100,
    seed: int = 0,
    top_k: int = 5,
    batch_size: int = 16,
    finished: Callable[[str], bool] | None = None,
) -> dict[int, str]:
    """A process's share of `generate`: some of the batches, as one process would form them.

    Returns:
        Prompt's place -> new text, of the prompts in the share.
    """
    if min(max_new_tokens, top_k, batch_size) < 1:
        raise InputError("max_new_tokens, top_k and batch_size must be at least 1")
    ids = [encode(tokenizer, prompt)[0] for prompt in prompts]
    limit = position_limit(model)
    for prompt, tokens in zip(prompts, ids, strict=True):
        if not tokens or (limit is not None and len(tokens) > limit):
            raise InputError(f"prompt of {len(tokens)} tokens cannot be continued: {prompt[:60]!r}")
    draws = torch.rand(len(prompts), max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ends = end_token_ids(model, tokenizer)

    def stop(tokens: Sequence[int]) -> bool:
        return finished is not None and finished(tokenizer.decode(tokens, skip_special_tokens=True))

    result: dict[int, str] = {}
    order = sorted(range(len(prompts)), key=lambda i: (len(ids[i]), i))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    with evaluating(model):
        for batch in (batches[i] for i in share.pick([len(batch) for batch in batches])):
            new = _continue_batch(model, [ids[i] for i in batch], draws[batch], top_k, ends, limit, stop)
            for index, tokens in zip(batch, new, strict=True):
                result[index] = tokenizer.decode(tokens, skip_special_tokens=True)
    return result


def _continue_batch(
    model: CausalLM,
    prompts: Sequence[Sequence[int]],
    draws: torch.Tensor,
    top_k: int,
    ends: frozenset[int],
    limit: int | None,
    stop: Callable[[Sequence[int]], bool],
) -> list[list[int]]:
    """New token ids of each prompt; ``draws`` holds uniform numbers, (batch, max_new_tokens)."""
    device = input_device(model)
    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        # Padding on the left: every row's next token then stands in the same column.
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    # Absolute positions (GPT-2, OPT by itself) would otherwise count the padding.
    takes_positions = accepts(model, "position_ids")
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    extra = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
    room = [draws.shape[1] if limit is None else limit - len(prompt) + 1 for prompt in prompts]
    new: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(prompts)))
    cache = None
    for step in range(draws.shape[1]):
        arguments = {"position_ids": positions} if takes_positions else {}
        output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **arguments, **extra)
        cache = output.past_key_values
        check_logits(output.logits[:, -1])
        chosen = _draw(output.logits[:, -1], draws[:, step], top_k)
        for row, token in enumerate(chosen.tolist()):
            if row in open_rows:
                if token in ends:
                    open_rows.discard(row)
                    continue
                new[row].append(token)
                if len(new[row]) >= room[row] or stop(new[row]):
                    open_rows.discard(row)
        if not open_rows:
            break
        ids = chosen.unsqueeze(1)
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
        # Rows that have ended run along to the end; their positions must stay within the table.
        positions = positions[:, -1:] + 1
        if limit is not None:
            positions = positions.clamp(max=limit - 1)
    return new


def _draw(logits: torch.Tensor, uniform: torch.Tensor, top_k: int) -> torch.Tensor:
    """One token per row by inverting the distribution function of the top k, (batch,)."""
    values, tokens = logits.float().topk(min(top_k, logits.shape[-1]), dim=-1)
    edges = torch.softmax(values.double(), dim=-1).cumsum(dim=-1)
    uniform = uniform.to(edges.device).unsqueeze(1).contiguous()
    # Rounding may leave the last edge a hair below 1.
    place = torch.searchsorted(edges, uniform).clamp(max=tokens.shape[1] - 1)
    return tokens.gather(1, place).squeeze(1)
