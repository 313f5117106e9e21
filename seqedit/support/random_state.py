"""Random numbers from a seed for libraries that draw from torch's global generators, and the caller's put back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """For the duration of a block, the global generators begin at a seed; afterwards they go on where they were.

    `torch.manual_seed` would also set those of all other devices, which nothing puts back.

    Args:
        seed: The seed.
        devices: Where besides the CPU something may be drawn.
    """
    cuda = sorted({device for device in devices if device.type == "cuda"}, key=str)
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for device in cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
