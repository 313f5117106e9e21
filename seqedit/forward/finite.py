"""Whether what a model says are numbers: a model that overflowed is an error with a name, never a score.

NaN compares as false with everything, so a broken model would silently score 0 in one metric and 100 in another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from seqedit.errors import NumericsError
from seqedit.forward.access import output_head
from seqedit.forward.protocols import CausalLM

REASON = "the model's logits are not finite (NaN or infinity): its weights are broken, or overflow in their dtype"


def check_logits(logits: Tensor) -> None:
    """Refuse logits (..., vocabulary) that are no distribution; single ones may be -inf, as where tokens are barred.

    Raises:
        NumericsError: a row holds NaN or +inf, or nothing but -inf.
    """
    if logits.numel() and not bool(torch.isfinite(logits.amax(dim=-1)).all()):  # amax passes NaN on
        raise NumericsError(REASON)


@contextmanager
def finite_logits(model: CausalLM) -> Iterator[None]:
    """While open, every pass of the model through its LM head is checked, whoever runs it.

    Raises:
        NumericsError: as `check_logits`.
    """
    handle = output_head(model).register_forward_hook(lambda module, args, output: check_logits(output))
    try:
        yield
    finally:
        handle.remove()


def check_metrics(task: str, metrics: Mapping[str, float]) -> None:
    """Refuse a task's metrics that are no numbers.

    Raises:
        NumericsError: names the task and the metric.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise NumericsError(f"task '{task}': its '{name}' is {value}, no finite number")
