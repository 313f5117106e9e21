"""The connection between the processes of one run: a gloo process group of torch.distributed.

gloo also where the models are on GPUs: what travels is small beside the work (orders, results, the few weights that
an edit changed), and a peer that dies breaks a gloo connection at once, while NCCL would wait for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from seqedit.errors import EnvironmentFailure
from seqedit.parallel.messages import Message

MEETING = timedelta(minutes=15)
"""How long processes wait for each other at the start."""

PATIENCE = timedelta(days=365)
"""How long one waits for another's next word: the leader may work alone for hours. A dead one is noticed at once."""

_PIECE = 2**30
"""Most bytes of one transfer."""

LEADER = 0
"""The rank that runs the program."""


class Link:
    """Messages between this process and the others.

    Args:
        rank: This process.
        size: How many there are.

    Raises:
        EnvironmentFailure: the processes do not find each other.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._made = not dist.is_initialized()
        try:
            if self._made:
                dist.init_process_group("gloo", timeout=MEETING, rank=rank, world_size=size)
            # The default group's timeout is that of the meeting, and one for both would be wrong for either.
            self._group: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise EnvironmentFailure(
                f"the {size} processes did not find each other at {where}: {_first_line(error)}"
            ) from error

    def send(self, rank: int, message: Message) -> None:
        """Send a message.

        Raises:
            EnvironmentFailure: the other process is gone.
        """
        head = message.head()
        with self._speaking(rank):
            dist.send(torch.tensor([head.numel()]), rank, group=self._group)
            for data in (head, *map(_bytes, message.tensors.values())):
                for piece in data.split(_PIECE):
                    dist.send(piece, rank, group=self._group)

    def receive(self, rank: int) -> Message:
        """Wait for a process's next message; errors as for `send`."""
        length = torch.zeros(1, dtype=torch.long)
        with self._speaking(rank):
            dist.recv(length, rank, group=self._group)
            head = torch.empty(int(length), dtype=torch.uint8)
            for piece in head.split(_PIECE):
                dist.recv(piece, rank, group=self._group)
            message = Message.empty(head)
            for tensor in message.tensors.values():
                for piece in _bytes(tensor).split(_PIECE):
                    dist.recv(piece, rank, group=self._group)
        return message

    def share(self, tensor: Tensor) -> None:
        """Give the leader's contiguous CPU tensor to all, in place; errors as for `send`."""
        with self._speaking(None):
            for piece in _bytes(tensor).split(_PIECE):
                dist.broadcast(piece, LEADER, group=self._group)

    def close(self) -> None:
        """Take the connection down."""
        with suppress(RuntimeError):  # it may be broken
            dist.destroy_process_group(self._group)
            if self._made:
                dist.destroy_process_group()

    @contextmanager
    def _speaking(self, rank: int | None) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            who = "another process" if rank is None else f"rank {rank}"
            raise EnvironmentFailure(
                f"{who} of {self.size} is gone ({_first_line(error)}); what is in the ledger is kept, a run continues "
                "with --resume"
            ) from error


def _bytes(tensor: Tensor) -> Tensor:
    """A tensor's (bytes,) on the CPU, without a copy where it is there; gloo does not know every type."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)


def _first_line(error: Exception) -> str:
    """What an error of gloo says, without where in gloo's source and what it supposes."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[[^]]*\]\s*", "", line).split(". ")[0]
