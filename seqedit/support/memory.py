"""How much memory is left, and what a failed allocation looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from seqedit.errors import EnvironmentFailure

Item = TypeVar("Item")
Result = TypeVar("Result")

_MESSAGES = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device.

    CUDA raises `torch.OutOfMemoryError`. The CPU's allocator and MPS raise a bare RuntimeError, whose text is all there
    is to know it by; Python itself raises MemoryError.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _MESSAGES)


def free_bytes(device: torch.device | str) -> int | None:
    """Bytes that can still be allocated on a device; None where that cannot be told.

    On CUDA this counts what the driver has free and what torch's allocator holds without using it. On the CPU it is
    the smaller of the machine's available memory and what the limits of the control group (a container, a SLURM job)
    leave.
    """
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "cpu":
        known = [n for n in (_available(), *_left_in_groups(Path("/sys/fs/cgroup"))) if n is not None]
        return min(known) if known else None
    return None


def release_cached(device: torch.device | str) -> None:
    """Give back memory that torch's allocator holds without using it, after a failed allocation."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # not Linux
    return None


def _left_in_groups(root: Path) -> list[int | None]:
    """What the memory limits of this process's control groups leave, for both versions of the interface."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return []
    left: list[int | None] = []
    for _, controllers, path in (group for group in groups if len(group) == 3):
        if not controllers:
            files = ("memory.max", "memory.current", "inactive_file")
            folders = [root / path.lstrip("/")]
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            # Inside a container the group's own folder is mounted as the root.
            folders = [root / "memory" / path.lstrip("/"), root / "memory"]
        else:
            continue
        left.append(next((n for n in (_left_in_group(folder, *files) for folder in folders) if n is not None), None))
    return left


def _left_in_group(folder: Path, limit_file: str, used_file: str, reclaimable: str) -> int | None:
    try:
        limit = (folder / limit_file).read_text("ascii").strip()
        used = int((folder / used_file).read_text("ascii"))
        counters = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
        # Pages of files are given up when memory is needed. A limit of "max" is none.
        return max(0, int(limit) - used + int(counters.get(reclaimable, 0)))
    except (OSError, ValueError):
        return None


def in_memory(
    work: Callable[[list[Item]], list[Result]], items: list[Item], needed: Sequence[int], device: torch.device | str
) -> list[Result]:
    """Do work on items in as few parts as memory allows.

    A part is planned to take at most half of what is free; one that runs out of memory all the same is halved and done
    again, nothing of it being kept.

    Args:
        work: Does some of the items; one result per item.
        items: All of them.
        needed: About how many bytes each takes.
        device: Where they are taken.

    Raises:
        EnvironmentFailure: a single item does not fit.
    """
    free = free_bytes(device)
    if len(items) == 1 or free is None or sum(needed) <= free / 2:
        try:
            return work(items)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(items) == 1:
                raise EnvironmentFailure(
                    f"out of memory on {device} with a single request in the batch; free memory, use a smaller dtype, "
                    "or spread the model over devices"
                ) from error
    # Here, not in the handler: the failure's tensors are gone with its traceback.
    release_cached(device)
    half = len(items) // 2
    first = in_memory(work, items[:half], needed[:half], device)
    return first + in_memory(work, items[half:], needed[half:], device)
