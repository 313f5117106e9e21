"""How far an edited model's predictions on plain text are from the unedited model's: the sensitive sign of damage.

Perplexity looks at one token of the vocabulary at every position, and a change may as well lower it as raise it. The
Kullback-Leibler divergence looks at the whole distribution: it is 0 only where nothing changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from evals.likelihood.batches import bucketed
from evals.likelihood.perplexity import text_windows
from evals.likelihood.teacher_forcing import MAX_LOGITS, Progress, logits_at
from seqedit.forward.access import evaluating, input_device
from seqedit.forward.batching import pass_tokens
from seqedit.forward.configuration import vocabulary_size
from seqedit.forward.finite import check_logits
from seqedit.forward.fused_gelu import fused_activations
from seqedit.forward.prefix_trees import pack, pack_width
from seqedit.forward.protocols import CausalLM, Tokenizer

Unedited = Callable[[], AbstractContextManager[None]]
"""While what it gives is open, the model has its unedited weights; those it had come back (`EditedModel.unedited`)."""

_CHUNK = 2**22
"""Logits that are taken in double precision at a time: 32 MiB of each model."""


@dataclass(frozen=True)
class Divergence:
    """Divergence of a model from its unedited self on a text.

    Attributes:
        kl: Mean over the predicted tokens of KL(p_unedited || p_edited), in nats: what is lost per token by coding
            with the edited model's distribution what the unedited model says.
        tokens: Predicted tokens.
    """

    kl: float
    tokens: int


def score_divergence(
    model: CausalLM,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    unedited: Unedited,
    *,
    length: int = 512,
    max_tokens_per_batch: int = 16_384,
    progress: Progress | None = None,
) -> Divergence:
    """KL(p_unedited || p_edited) over the positions that `evals.likelihood.perplexity.score_perplexity` scores.

    It is exact, over the whole vocabulary. Batch after batch runs through the model as it is and as it was, so that no
    more than one batch's logits of both are held at once: the cost is that of two passes over the text.

    Args:
        model: The edited model; left as it was.
        tokenizer: Its fast tokenizer.
        texts: Plain texts, cut into windows as for perplexity.
        unedited: Gives the model its unedited weights for a while.
        length: Tokens per window, cut down to the model's positions.
        max_tokens_per_batch: Most tokens per forward pass.
        progress: Called with (windows done, windows in all).

    Raises:
        InputError: the texts have fewer than two tokens, or ``length`` is below 2.
        NumericsError: the logits of one of the two are not finite.
    """
    windows = text_windows(model, tokenizer, texts, length)
    inputs = [tuple(window[:-1]) for window in windows]  # the last token is only ever predicted
    packed = pack(inputs, pack_width(model, inputs))
    asked: list[Counter[int]] = [Counter() for _ in packed.rows]
    for window, row in enumerate(packed.row_of):
        asked[row].update(packed.nodes[window])  # a node counts once for every window that goes through it
    needed = [sorted(nodes) for nodes in asked]
    lengths = [len(row.ids) for row in packed.rows]
    vocabulary = vocabulary_size(model)
    limit = pass_tokens(input_device(model), max_tokens_per_batch)
    heads = max(1, MAX_LOGITS // vocabulary // 2)  # of two models
    total, done = 0.0, 0
    with evaluating(model), fused_activations(model):
        for batch in bucketed(lengths, [len(nodes) for nodes in needed], max(1, limit), heads):
            rows, positions = [packed.rows[row] for row in batch], [needed[row] for row in batch]
            edited = logits_at(model, rows, positions)
            with unedited():
                before = logits_at(model, rows, positions)
            times = [asked[row][node] for row, nodes in zip(batch, positions, strict=True) for node in nodes]
            total += _summed(before, edited, times)
            done += len(batch)
            if progress is not None:
                progress(done, len(lengths))
    tokens = sum(map(len, inputs))
    return Divergence(max(0.0, total / tokens), tokens)  # rounding may leave less than nothing


def _summed(before: Tensor, after: Tensor, times: Sequence[int]) -> float:
    """Sum of KL(before || after) over positions, each so many times; logits (positions, vocabulary), float32."""
    check_logits(before)
    check_logits(after)
    size = max(1, _CHUNK // before.shape[-1])
    weights = torch.tensor(times, dtype=torch.float64, device=before.device)
    total = 0.0
    for start in range(0, len(before), size):
        chunk = slice(start, start + size)
        p = before[chunk].double().log_softmax(dim=-1)
        q = after[chunk].double().log_softmax(dim=-1)
        share = p.exp()
        # A token that the unedited model bars costs nothing, whatever the other says: 0 log 0 = 0.
        parts = torch.where(share > 0, share * (p - q), torch.zeros_like(share))
        total += float(parts.sum(dim=-1) @ weights[chunk])
    return total
