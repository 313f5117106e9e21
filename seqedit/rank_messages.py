"""What processes that work together send each other: JSON and tensors, never pickled objects."""

from __future__ import annotations

import importlib
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
    fields: dict[str, Any] = {"error": type(error).__name__, "text": str(error), "trace": traceback.format_exc()}
    if isinstance(error, SeqeditError):
        fields |= {"module": type(error).__module__, "state": {k: v for k, v in vars(error).items() if _is_json(v)}}
    return Message(fields)


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
    kind = _ours(answer.fields.get("module", errors.__name__), name)
    if kind is not None:
        # Not called: kinds have constructors of their own, which make the text from other arguments.
        error = kind.__new__(kind)
        error.args = (text,)
        vars(error).update(answer.fields.get("state", {}))
        raise error
    if name in _SYSTEM:
        raise EnvironmentFailure(f"rank {rank}: {text}")
    raise RuntimeError(f"rank {rank} failed:\n{answer.fields['trace']}")


def _ours(module: str, name: str) -> type[SeqeditError] | None:
    """A kind of error of this distribution, whichever of its modules defines it."""
    if module.split(".")[0] not in ("seqedit", "ledger", "evals"):
        return None
    kind = getattr(importlib.import_module(module), name, None)
    return kind if isinstance(kind, type) and issubclass(kind, SeqeditError) else None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


_SYSTEM = {"OSError", *(kind.__name__ for kind in OSError.__subclasses__())}
"""Names of the system's own errors."""
