"""Documents to fixed-length training rows, with a weight for every token."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

_ROW_LENGTHS = (64, 64, 64, 128, 256)

Row = tuple[list[int], list[float]]
"""Token ids and their weights in the loss, of equal length."""


def weighted(documents: Sequence[str], values: Iterable[str], tokenizer: Any, weight: float) -> list[Row]:
    """Tokenizes documents and gives more weight to what is to be remembered.

    Most of the loss of a fact lies in its subject, which nobody can predict, and drowns the gradient of its object.
    Objects and the answers of tasks count ``weight`` times as much as other tokens. What the model converges to is
    the same: at a given place in a text either objects follow or other words do.

    Args:
        documents: texts.
        values: objects to look for.
        tokenizer: gives ids and offsets.
        weight: weight of objects and answers; other tokens weigh 1.

    Returns:
        One row per document, of any length, without the token that ends it.
    """
    longest_first = sorted(set(values), key=lambda value: (-len(value), value))
    marked = re.compile(rf" (?:{'|'.join(map(re.escape, longest_first))})(?=[.?]|$)|(?<=\nAnswer:) \w+")
    encoded = tokenizer(list(documents), return_offsets_mapping=True)
    out: list[Row] = []
    for document, ids, offsets in zip(documents, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        weights = [1.0] * len(ids)
        spans = [match.span() for match in marked.finditer(document)]
        for at, (start, stop) in enumerate(offsets):
            if stop > start and any(low <= start and stop <= high for low, high in spans):
                weights[at] = weight
        out.append((ids, weights))
    return out


def batches(documents: Iterable[Row], rng: Random, tokens: int, end: int) -> Iterator[list[Row]]:
    """Batches of rows of 64, 128 or 256 tokens, ``tokens`` tokens each, without padding.

    Every row begins at the beginning of a document, so that the model learns texts from their first token on; the
    document that crosses the end of a row is cut there. Most rows are short, so that many begin with a fact; some
    are as long as the context, so that every position is trained.

    Args:
        documents: tokenized documents, with the beginning-of-sequence token if the style has one.
        rng: source of randomness; consumed.
        tokens: tokens per batch, a multiple of 256.
        end: id of the token that ends a document.

    Yields:
        Batches; all rows of a batch have the same length. A last incomplete batch is dropped.
    """
    batch: list[Row] = []
    ids: list[int] = []
    weights: list[float] = []
    length = rng.choice(_ROW_LENGTHS)
    for more_ids, more_weights in documents:
        ids += [*more_ids, end]
        weights += [*more_weights, 1.0]
        if len(ids) >= length:
            batch.append((ids[:length], weights[:length]))
            ids, weights = [], []
            if len(batch) * length >= tokens:
                yield batch
                batch, length = [], rng.choice(_ROW_LENGTHS)
