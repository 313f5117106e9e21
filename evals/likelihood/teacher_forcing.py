"""Likelihood of given continuations under a causal language model, in as few tokens as possible.

This one function carries the CounterFact scores, the lm-eval tasks and perplexity. It is exact, not an
approximation: sequences that begin alike are run once (attention is causal), and only the positions that
predict a scored token go through the LM head, whose cost and memory grow with the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from evals.likelihood.batches import bucketed
from seqedit.errors import InputError, NumericsError
from seqedit.forward.access import evaluating, input_device, output_head, position_limit
from seqedit.forward.batching import pass_tokens
from seqedit.forward.configuration import vocabulary_size
from seqedit.forward.finite import check_logits
from seqedit.forward.fused_gelu import fused_activations
from seqedit.forward.prefix_trees import PackedRow, forward_arguments, pack, pack_width
from seqedit.forward.protocols import CausalLM
from seqedit.support.shares import WHOLE, ProcessShare

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all) after every forward pass."""

# 2**26 float32 logits are 256 MiB; log-softmax needs as much again.
MAX_LOGITS = 2**26


@dataclass(frozen=True)
class Continuation:
    """What the model thinks of one continuation under teacher forcing.

    Attributes:
        nll: Summed negative log-likelihood of its tokens, in nats.
        tokens: How many tokens it has.
        correct: How many of them are the argmax of their position, given the right tokens before.
        predicted: The argmax of each position.
    """

    nll: float
    tokens: int
    correct: int
    predicted: tuple[int, ...] = ()

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
    model: CausalLM,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    max_tokens_per_batch: int = 16_384,
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
        NumericsError: if the model's logits are not finite.
    """
    results = score_share(model, pairs, WHOLE, max_tokens_per_batch=max_tokens_per_batch, progress=progress)
    return [results[pair] for pair in range(len(pairs))]


class Scorer(Protocol):
    """`score_continuations`, or what does the same in another place, as on several processes."""

    def __call__(
        self,
        model: CausalLM,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        *,
        max_tokens_per_batch: int = 16_384,
        progress: Progress | None = None,
    ) -> list[Continuation]:
        """As `score_continuations`."""


def score_share(
    model: CausalLM,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    share: ProcessShare,
    *,
    max_tokens_per_batch: int = 16_384,
    progress: Progress | None = None,
) -> dict[int, Continuation]:
    """A process's share of `score_continuations`: some of the batches, as one process would form them.

    Returns:
        Pair -> `Continuation`, of the pairs in the share; the shares of all ranks together hold every pair once.
    """
    _check(pairs, position_limit(model))
    if not pairs:
        return {}
    # The last token is only ever predicted, never read.
    inputs = [(*context, *continuation[:-1]) for context, continuation in pairs]
    packed = pack(inputs, pack_width(model, inputs))
    asked: list[list[int]] = [[] for _ in packed.rows]  # for each row the pairs it answers
    for pair, row in enumerate(packed.row_of):
        asked[row].append(pair)
    # Its context's last token predicts a continuation's first.
    scored = [nodes[len(pairs[pair][0]) - 1 :] for pair, nodes in enumerate(packed.nodes)]
    positions = [sorted({node for pair in asked[row] for node in scored[pair]}) for row in range(len(packed.rows))]

    results: dict[int, Continuation] = {}
    vocabulary = vocabulary_size(model)
    lengths = [len(row.ids) for row in packed.rows]
    limit = pass_tokens(input_device(model), max_tokens_per_batch)
    batches = list(bucketed(lengths, [len(p) for p in positions], max(1, limit), max(1, MAX_LOGITS // vocabulary)))
    padded = [len(batch) * lengths[batch[0]] for batch in batches]  # longest first
    mine = [batches[i] for i in share.pick(padded)]
    done, total = 0, sum(map(len, mine))
    with evaluating(model), fused_activations(model):
        for batch in mine:
            needed = [positions[row] for row in batch]
            logits = logits_at(model, [packed.rows[row] for row in batch], needed)
            _collect(results, pairs, [asked[row] for row in batch], scored, needed, logits)
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return results


def _check(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], limit: int | None) -> None:
    for index, (context, continuation) in enumerate(pairs):
        if not len(context) or not len(continuation):
            side = "context" if not len(context) else "continuation"
            raise InputError(f"pair {index}: the {side} has no tokens")
        length = len(context) + len(continuation) - 1
        if limit is not None and length > limit:
            raise InputError(f"pair {index}: {length} tokens, but the model has {limit} positions")


def logits_at(model: CausalLM, rows: Sequence[PackedRow], positions: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits at the needed nodes, row by row: (positions, vocabulary), float32."""
    row_index = torch.tensor([i for i, p in enumerate(positions) for _ in p])
    column = torch.tensor([c for p in positions for c in p])
    arguments = forward_arguments(rows, input_device(model), model.get_input_embeddings().weight.dtype)
    with _head_sees_only(output_head(model), row_index, column):
        logits: torch.Tensor = model(**arguments, use_cache=False).logits[0]
    return logits.float()


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
    scored: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
    logits: torch.Tensor,
) -> None:
    """Read every pair's tokens off the logits at its nodes; one transfer for the whole batch."""
    place: list[int] = []
    token: list[int] = []
    start = 0
    for row_pairs, row_positions in zip(asked, positions, strict=True):
        offset = {position: start + i for i, position in enumerate(row_positions)}
        for pair in row_pairs:
            continuation = pairs[pair][1]
            place += [offset[node] for node in scored[pair]]
            token += list(continuation)
        start += len(row_positions)
    at, wanted = torch.tensor(place, device=logits.device), torch.tensor(token, device=logits.device)
    check_logits(logits)
    losses = (logits.logsumexp(dim=-1)[at] - logits[at, wanted]).double()
    if not bool(torch.isfinite(losses).all()):  # a token that the model bars altogether
        raise NumericsError("the model gives a token that is to be scored the probability 0, so its loss is infinite")
    nll = losses.tolist()
    chosen = logits.argmax(dim=-1)[at].tolist()
    start = 0
    for pair, length in ((pair, len(pairs[pair][1])) for row_pairs in asked for pair in row_pairs):
        summed = 0.0
        for value in nll[start : start + length]:
            summed += value
        predicted = tuple(chosen[start : start + length])
        right = sum(p == t for p, t in zip(predicted, token[start : start + length], strict=True))
        results[pair] = Continuation(summed, length, right, predicted)
        start += length
