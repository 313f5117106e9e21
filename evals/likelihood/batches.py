"""How rows are laid into batches: similar lengths together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def bucketed(lengths: Sequence[int], scored: Sequence[int], max_tokens: int, max_scored: int) -> Iterator[list[int]]:
    """Batches of row indices, longest rows first, so that running out of memory shows at once.

    Args:
        lengths: Tokens of each row.
        scored: Positions of each row that go through the LM head.
        max_tokens: Most tokens of a batch, padding included; a longer row is a batch of its own.
        max_scored: Most scored positions of a batch; bounds the memory of the logits.

    Yields:
        Indices into ``lengths``.
    """
    batch: list[int] = []
    heads = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        full = batch and ((len(batch) + 1) * lengths[batch[0]] > max_tokens or heads + scored[index] > max_scored)
        if full:
            yield batch
            batch, heads = [], 0
        batch.append(index)
        heads += scored[index]
    if batch:
        yield batch
