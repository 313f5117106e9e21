"""Likelihood of given continuations under a causal language model, in as few tokens as possible.

This one function carries the CounterFact scores, the lm-eval tasks and perplexity. It is exact, not an
approximation: sequences that begin alike are run once (attention is causal), and only the positions that
predict a scored token go through the LM head, whose cost and memory grow with the vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from evals.batches import bucketed, longest_holders
from evals.model_access import evaluating, input_device, output_head, position_limit
from seqedit.errors import InputError

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all) after every forward pass."""

# 2**26 float32 logits are 256 MiB; log-softmax needs as much again.
_MAX_LOGITS = 2**26


@dataclass(frozen=True)
class Continuation:
    """What the model thinks of one continuation under teacher forcing.

    Attributes:
        nll: Summed negative log-likelihood of its tokens, in nats.
        tokens: How many tokens it has.
        correct: How many of them are the argmax of their position, given the right tokens before.
    """

    nll: float
    tokens: int
    correct: int

    @property
    def argmax(self) -> bool:
        """Whether every token is the argmax of its position."""
        return self.correct == self.tokens

    @property
    def argmax_share(self) -> float:
        """Share of the tokens that are the argmax of their position."""
        return self.correct / self.tokens

    @property
    def mean_nll(self) -> float:
        """Negative log-likelihood per token, in nats."""
        return self.nll / self.tokens


def score_continuations(
    model: Any,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    max_tokens_per_batch: int = 4096,
    progress: Progress | None = None,
) -> list[Continuation]:
    """Score continuations after their contexts.

    Results do not depend on the batching beyond rounding. The model's mode and weights are left as they are.

    Args:
        model: A causal language model (``transformers`` or PEFT around it), on any device, in any dtype.
        pairs: Token ids of context and continuation; neither may be empty.
        max_tokens_per_batch: Most tokens per forward pass, padding included.
        progress: Told how far the work is.

    Returns:
        One `Continuation` per pair, in order.

    Raises:
        InputError: if a side of a pair is empty, or context and continuation exceed the model's positions.
    """
    _check(pairs, position_limit(model))
    # The last token is only ever predicted, never read.
    inputs = [(*context, *continuation[:-1]) for context, continuation in pairs]
    holders = longest_holders(inputs)
    rows = sorted(set(holders))
    asked: dict[int, list[int]] = defaultdict(list)  # row -> the pairs it answers
    for pair, holder in enumerate(holders):
        asked[holder].append(pair)
    positions = [_scored_positions([pairs[p] for p in asked[row]]) for row in rows]

    results: dict[int, Continuation] = {}
    vocabulary = max(1, int(getattr(model.config, "vocab_size", 0) or 1))
    budget = bucketed(
        [len(inputs[row]) for row in rows],
        [len(p) for p in positions],
        max(1, max_tokens_per_batch),
        max(1, _MAX_LOGITS // vocabulary),
    )
    done = 0
    with evaluating(model):
        for batch in budget:
            needed = [positions[b] for b in batch]
            log_probs = _target_log_probs(model, [inputs[rows[b]] for b in batch], needed)
            _collect(results, pairs, [asked[rows[b]] for b in batch], needed, log_probs)
            done += len(batch)
            if progress is not None:
                progress(done, len(rows))
    return [results[pair] for pair in range(len(pairs))]


def _check(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], limit: int | None) -> None:
    for index, (context, continuation) in enumerate(pairs):
        if not len(context) or not len(continuation):
            side = "context" if not len(context) else "continuation"
            raise InputError(f"pair {index}: the {side} has no tokens")
        length = len(context) + len(continuation) - 1
        if limit is not None and length > limit:
            raise InputError(f"pair {index}: {length} tokens, but the model has {limit} positions")


def _scored_positions(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[int]:
    """Positions of one row whose logits are needed, ascending."""
    needed: set[int] = set()
    for context, continuation in pairs:
        needed.update(range(len(context) - 1, len(context) - 1 + len(continuation)))
    return sorted(needed)


def _target_log_probs(model: Any, rows: Sequence[tuple[int, ...]], positions: Sequence[Sequence[int]]) -> torch.Tensor:
    """Log-probabilities at the needed positions, row by row: (positions, vocabulary), float32."""
    device = input_device(model)
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        # Padding stands on the right, where causal attention hides it and positions count from 0 unaided.
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    row_index = torch.tensor([i for i, p in enumerate(positions) for _ in p])
    column = torch.tensor([c for p in positions for c in p])
    with _head_sees_only(output_head(model), row_index, column):
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    return torch.log_softmax(logits[0].float(), dim=-1)


@contextmanager
def _head_sees_only(head: torch.nn.Module, row: torch.Tensor, column: torch.Tensor) -> Iterator[None]:
    """While open, the LM head gets (1, m, d) instead of (batch, t, d): the hidden states that are scored.

    Whatever a model does to its logits afterwards (scale, soft cap) is element-wise and so stays right.
    ``logits_to_keep`` cannot do this: it takes the same columns of every row.
    """

    def gather(_: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0]
        return (hidden[row.to(hidden.device), column.to(hidden.device)].unsqueeze(0), *args[1:])

    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def _collect(
    results: dict[int, Continuation],
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    asked: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
    log_probs: torch.Tensor,
) -> None:
    """Read every pair's tokens off the log-probabilities of its row; one transfer for the whole batch."""
    owner: list[int] = []
    place: list[int] = []
    token: list[int] = []
    start = 0
    for row_pairs, row_positions in zip(asked, positions, strict=True):
        offset = {position: start + i for i, position in enumerate(row_positions)}
        for pair in row_pairs:
            context, continuation = pairs[pair]
            owner += [pair] * len(continuation)
            place += [offset[len(context) - 1 + i] for i in range(len(continuation))]
            token += list(continuation)
        start += len(row_positions)
    at, wanted = torch.tensor(place, device=log_probs.device), torch.tensor(token, device=log_probs.device)
    nll = (-log_probs[at, wanted]).double().tolist()
    hit = (log_probs.argmax(dim=-1)[at] == wanted).tolist()
    for pair, value, right in zip(owner, nll, hit, strict=True):
        before = results.get(pair, Continuation(0.0, 0, 0))
        results[pair] = Continuation(before.nll + value, before.tokens + 1, before.correct + right)
