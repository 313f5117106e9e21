"""Documents to fixed-length training rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

_ROW_LENGTHS = (64, 64, 64, 128, 256)


def batches(documents: Iterable[list[int]], rng: Random, tokens: int, end: int) -> Iterator[list[list[int]]]:
    """Batches of rows of 64, 128 or 256 tokens, ``tokens`` tokens each, without padding.

    Every row begins at the beginning of a document, so that the model learns texts from their first token on; the
    document that crosses the end of a row is cut there. Most rows are short, so that many begin with a fact; some
    are as long as the context, so that every position is trained.

    Args:
        documents: token ids of each document, with the beginning-of-sequence token if the style has one.
        rng: source of randomness; consumed.
        tokens: tokens per batch, a multiple of 256.
        end: id of the token that ends a document.

    Yields:
        Batches; all rows of a batch have the same length. A last incomplete batch is dropped.
    """
    batch: list[list[int]] = []
    row: list[int] = []
    length = rng.choice(_ROW_LENGTHS)
    for ids in documents:
        row += [*ids, end]
        if len(row) >= length:
            batch.append(row[:length])
            row = []
            if len(batch) * length >= tokens:
                yield batch
                batch, length = [], rng.choice(_ROW_LENGTHS)
