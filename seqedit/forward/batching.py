"""Token sequences of unequal length as padded batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_MOST = {"cpu": 1024}
"""Tokens of a forward pass without gradients beyond which it is slower per token: on a CPU, activations that have left
the cache are waited for."""
_OTHERS = 16_384


def pass_tokens(device: torch.device, most: int | None = None) -> int:
    """How many tokens a forward pass without gradients is given at once on a device.

    Args:
        device: Where the model's input goes.
        most: The caller's limit; None for none.
    """
    suits = _MOST.get(device.type, _OTHERS)
    return suits if most is None else min(most, suits)


def pad_right(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids and their attention mask.

    Padding goes to the right whatever the tokenizer's padding side is: with causal attention no real token ever
    sees it, positions need no correction, and the padding id does not matter (0 exists in every vocabulary).

    Returns:
        (rows, longest) int64 ids and mask.
    """
    longest = max(len(s) for s in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, : len(sequence)] = 1
    return ids.to(device), mask.to(device)


def token_budget_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length whose padded size stays within ``max_tokens`` (or is one sequence)."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batch: list[int] = []
    for index in order:
        # Sorted, so the newest is the longest.
        if batch and (len(batch) + 1) * lengths[index] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
