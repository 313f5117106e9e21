"""Which of several processes this one is, as torchrun and `accelerate launch` say it in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from seqedit.errors import EnvironmentFailure, InputError


@dataclass(frozen=True)
class Place:
    """A process among those of one run.

    Attributes:
        rank: Which it is, from 0.
        size: How many there are.
        local_rank: Which it is on its machine.
        local_size: How many that machine has.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> Place:
        """From RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; alone where WORLD_SIZE is not set or 1.

        Raises:
            EnvironmentFailure: the variables do not name a place, or MASTER_ADDR and MASTER_PORT are missing.
        """
        size = _number("WORLD_SIZE", 1)
        if size <= 1:
            return cls()
        rank = _number("RANK", None)
        if not 0 <= rank < size:
            raise EnvironmentFailure(f"RANK is {rank}, but WORLD_SIZE is {size}")
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                raise EnvironmentFailure(
                    f"WORLD_SIZE is {size}, but {name} is not set; start the processes by torchrun"
                )
        return cls(rank, size, _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1))

    def device(self, wanted: str | None) -> str | None:
        """The device for this process's model: of a machine's GPUs the one that is its turn.

        Args:
            wanted: What the user asked for.

        Raises:
            InputError: a machine has more processes than GPUs, or each would spread its model over all of them.
        """
        if self.size == 1:
            return wanted
        if wanted == "auto" and self.local_size > 1:
            raise InputError(
                "--device auto spreads a model over all GPUs of a machine, which leaves none for a second process "
                "there; start one process per machine"
            )
        import torch  # deferred: `seqedit log` does not need it

        if wanted not in (None, "cuda") or not torch.cuda.is_available():
            return wanted
        if self.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {self.local_rank} of this machine sees {torch.cuda.device_count()} GPUs; start one process "
                "per GPU, or say with --device where the models shall be"
            )
        return f"cuda:{self.local_rank}"


def _number(name: str, default: int | None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise EnvironmentFailure(f"{name} is {text!r}, not a number; start the processes by torchrun") from None
