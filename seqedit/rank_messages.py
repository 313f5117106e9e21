"""What processes that work together send each other: JSON and tensors, never pickled objects."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seqedit import errors
from seqedit.errors import EnvironmentFailure, SeqeditError


@dataclass(frozen=True, eq=False)
class Message:
    """An order to a process, or its answer.

    Attributes:
        fields: JSON types.
        tensors: Tensors by name.
    """

    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def head(self) -> Tensor:
        """(bytes,) uint8: the fields, and name, type and shape of each tensor, as JSON; the tensors follow it."""
        specs = [[name, str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in self.tensors.items()]
        return torch.frombuffer(bytearray(json.dumps([self.fields, specs]).encode()), dtype=torch.uint8)

    @classmethod
    def empty(cls, head: Tensor) -> Message:
        """The message that a head announces, with tensors on the CPU that are still to be filled."""
        fields, specs = json.loads(head.numpy().tobytes())
        return cls(fields, {name: torch.empty(shape, dtype=getattr(torch, dtype)) for name, dtype, shape in specs})


def error_message(error: Exception) -> Message:
    """An error as an answer."""
    return Message({"error": type(error).__name__, "text": str(error), "trace": traceback.format_exc()})


def raise_error(answer: Message, rank: int) -> None:
    """Raise the error that an answer holds, if any: one of ours as itself, a failing system as `EnvironmentFailure`.

    Raises:
        SeqeditError: as the other process raised it.
        RuntimeError: it failed otherwise; the message holds its traceback.
    """
    name = answer.fields.get("error")
    if name is None:
        return
    text = answer.fields["text"]
    if name in _OURS:
        raise _OURS[name](text)
    if name in _SYSTEM:
        raise EnvironmentFailure(f"rank {rank}: {text}")
    raise RuntimeError(f"rank {rank} failed:\n{answer.fields['trace']}")


_OURS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, SeqeditError)}
"""Errors of ours by name."""

_SYSTEM = {"OSError", *(kind.__name__ for kind in OSError.__subclasses__())} - set(_OURS)
"""Names of the system's own errors."""
