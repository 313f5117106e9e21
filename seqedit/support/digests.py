"""Canonical digests: of content, never of file bytes whose order a library chooses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_BYTES = 1 << 24


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; equal values give equal text. NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def json_digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 (hex) of a tensor's dtype, shape and row-major bytes, wherever it lives."""
    import torch  # here, so that what digests JSON alone does not wait for it

    digest = hashlib.sha256(f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}".encode())
    flat = tensor.detach().contiguous().view(-1)
    step = max(1, _CHUNK_BYTES // max(1, flat.element_size()))
    for start in range(0, flat.numel(), step):
        # Via uint8, because NumPy knows no bfloat16.
        digest.update(flat[start : start + step].cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 (hex) of named tensors, independent of their order."""
    items = tensors.items() if isinstance(tensors, Mapping) else tensors
    return json_digest(sorted((name, tensor_digest(tensor)) for name, tensor in items))
