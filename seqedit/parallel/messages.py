"""What processes that work together send each other: JSON and tensors, never pickled objects."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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
    """An error as an answer: its classes, text, arguments and attributes, as far as JSON can hold them."""
    return Message({
        "error": [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__],
        "text": str(error),
        "arguments": [_plain(argument) for argument in (*error.args, *_file_of(error))],
        "attributes": {name: _plain(value) for name, value in vars(error).items()},
        "trace": "".join(traceback.format_exception(error)),
    })  # fmt: skip


def raise_error(answer: Message, rank: int) -> None:
    """Raise the error that an answer holds, if any: one of ours as itself, a failing system as `EnvironmentFailure`.

    One of ours is of the other process's own class, whatever its constructor takes, or, where this process does not
    know that, of the nearest class that it knows.

    Raises:
        SeqeditError: as the other process raised it.
        RuntimeError: it failed otherwise; the message holds its traceback.
    """
    names = answer.fields.get("error")
    if names is None:
        return
    known = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in _descendants(SeqeditError)}
    kind = next((known[name] for name in names if name in known), None)
    if kind is not None:
        raise _rebuilt(kind, answer.fields)
    if "builtins.OSError" in names:
        raise EnvironmentFailure(f"rank {rank}: {answer.fields['text']}")
    raise RuntimeError(f"rank {rank} failed:\n{answer.fields['trace']}")


def _rebuilt(kind: type[SeqeditError], fields: Mapping[str, Any]) -> SeqeditError:
    """An error without a call of its constructor, which may take other arguments than the error keeps."""
    text, arguments = fields["text"], tuple(fields["arguments"])
    for chosen in (arguments, (text,)):  # what is no JSON may have changed the text
        error = kind.__new__(kind, *chosen)
        if not error.args:  # OSError leaves them to its constructor, where a class has one of its own
            error.args = chosen
        vars(error).update(fields["attributes"])
        if str(error) == text:
            return error
    # Its class makes the text of what cannot travel: what it said, under the nearest class that does not.
    return _rebuilt(next(other for other in kind.__mro__[1:] if issubclass(other, SeqeditError)), fields)


def _descendants(kind: type[SeqeditError]) -> Iterator[type[SeqeditError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)


def _file_of(error: Exception) -> tuple[Any, ...]:
    """The file that a system's error is about: the third argument of its constructor, which its arguments lack."""
    return (error.filename,) if isinstance(error, OSError) and error.filename is not None else ()


def _plain(value: Any) -> Any:
    """A value as JSON types; what has none as its text."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return str(value)
