"""Perplexity of plain text, the cheapest sign that edits have damaged a model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from evals.likelihood.teacher_forcing import Progress, Scorer, score_continuations
from seqedit.errors import InputError
from seqedit.forward.access import position_limit
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.text.tokenization import encode


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a text.

    Attributes:
        value: exp of the mean negative log-likelihood per predicted token.
        nll: That mean, in nats.
        tokens: Predicted tokens.
    """

    value: float
    nll: float
    tokens: int


def score_perplexity(
    model: CausalLM,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    length: int = 512,
    max_tokens_per_batch: int = 16_384,
    progress: Progress | None = None,
    scorer: Scorer = score_continuations,
) -> Perplexity:
    """Perplexity of texts that are joined by the end token and cut into pieces of one length.

    The first token of each piece is context only. Values for different lengths are not comparable.

    Args:
        model: A causal language model; left as it was.
        tokenizer: Its fast tokenizer.
        texts: Plain texts; each begins with the special tokens the tokenizer puts there.
        length: Tokens per piece, cut down to the model's positions.
        max_tokens_per_batch: Most tokens per forward pass.
        progress: Called with (pieces done, pieces in all).
        scorer: What finds the likelihoods.

    Raises:
        InputError: if the texts have fewer than two tokens, or ``length`` is below 2.
    """
    pairs = [(window[:1], window[1:]) for window in text_windows(model, tokenizer, texts, length)]
    scored = scorer(model, pairs, max_tokens_per_batch=max_tokens_per_batch, progress=progress)
    total = sum(s.tokens for s in scored)
    nll = sum(s.nll for s in scored) / total
    return Perplexity(perplexity_of(nll), nll, total)


def text_windows(model: CausalLM, tokenizer: Tokenizer, texts: Iterable[str], length: int) -> list[list[int]]:
    """Token ids of texts joined by the end token and cut into windows; the first token of each is context only.

    Args:
        model: The model, whose positions limit the length.
        tokenizer: Its tokenizer.
        texts: Plain texts.
        length: Most tokens per window.

    Raises:
        InputError: the texts have fewer than two tokens, or ``length`` is below 2.
    """
    if length < 2:
        raise InputError("length must be at least 2 tokens")
    limit = position_limit(model)
    length = length if limit is None else min(length, limit)
    end = getattr(tokenizer, "eos_token_id", None)
    tokens: list[int] = []
    for text in texts:
        if tokens and end is not None:
            tokens.append(end)
        tokens += encode(tokenizer, text)[0]
    windows = [tokens[start : start + length] for start in range(0, len(tokens), length)]
    windows = [window for window in windows if len(window) > 1]
    if not windows:
        raise InputError("perplexity needs a text of at least two tokens")
    return windows


def perplexity_of(nll: float) -> float:
    """Perplexity of a mean negative log-likelihood per token, in nats."""
    # A badly damaged model overflows; infinity says so, an exception would end the run.
    return math.exp(nll) if nll < 700 else math.inf
