"""What a part reports: costs side by side, the machine, and the floor that the operations and bytes set."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from torch import Tensor

from benchmarks.timing import Cost, measure, peak_bytes


@dataclass(frozen=True)
class Rates:
    """What this machine does at best, with the threads that the part has.

    Attributes:
        operations: Floating-point operations a second, of one large matrix product.
        bytes: Bytes moved a second (read and written), of one large copy.
    """

    operations: float
    bytes: float

    def floor(self, operations: float, moved: float) -> dict[str, float]:
        """The least time in which so many operations can be done and so many bytes moved."""
        return {
            "operations": operations,
            "bytes": moved,
            "seconds": max(operations / self.operations, moved / self.bytes),
            "operations_per_second": self.operations,
            "bytes_per_second": self.bytes,
        }


def measure_rates(dtype: torch.dtype = torch.float32, size: int = 1024, device: str = "cpu") -> Rates:
    """The machine's rates, by a product of (size, size) matrices and a copy of 64 MiB."""
    one = torch.randn(size, size, device=device).to(dtype)
    product = measure(lambda: one @ one, 5)
    source = torch.zeros(2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = measure(lambda: target.copy_(source), 5)
    return Rates(2 * size**3 / product.seconds, 2 * source.numel() / copy.seconds)


def fitted_exponent(costs: Mapping[int, float]) -> float | None:
    """k of cost ~ size^k, fitted over all sizes by least squares of the logarithms; None where there is but one."""
    if len(costs) < 2:
        return None
    return float(numpy.polyfit(numpy.log(list(costs)), numpy.log(list(costs.values())), 1)[0])


def side_by_side(ours: Cost, theirs: Cost, *, speedup: bool = True) -> dict[str, float]:
    """Both costs and their ratios.

    Args:
        ours: What the project's code takes.
        theirs: What the baseline takes.
        speedup: Ratios are theirs over ours; else ours over theirs.
    """

    def ratio(one: float, other: float) -> float:
        return other / one if speedup else one / other

    return {
        "ratio": ratio(ours.seconds, theirs.seconds),
        "cpu_ratio": ratio(ours.cpu_seconds, theirs.cpu_seconds),
        "seconds": ours.seconds,
        "baseline_seconds": theirs.seconds,
        "cpu_seconds": ours.cpu_seconds,
        "baseline_cpu_seconds": theirs.cpu_seconds,
    }


def part_figures(
    headline: Mapping[str, Any], ratio_is: str, options: Any, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A part's figures as a JSON object.

    Args:
        headline: The row that stands for the part (`side_by_side`, and what else it has); its memory counts too.
        ratio_is: What is over what in ``ratio``, and what was promised of it.
        options: The part's sizes, a dataclass.
        rows: What was measured, one object per size; keys as in the headline.
    """
    return {
        "peak_bytes": peak_bytes(),
        "peak_is": "of the part's process, baseline included",
        **headline,
        "ratio_is": ratio_is,
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "options": asdict(options),
        "sizes": [dict(row) for row in rows],
    }


def machine() -> dict[str, Any]:
    """Processor, accelerator and the libraries that the figures depend on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": str(transformers.__version__),
    }


def matrix_parameters(module: torch.nn.Module) -> int:
    """Numbers in a module's matrices: two operations for each of them per token, forward."""
    return sum(int(p.numel()) for p in module.parameters() if p.ndim == 2)


def nbytes(tensor: Tensor) -> int:
    """Bytes of a tensor's numbers."""
    return tensor.numel() * tensor.element_size()


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
