"""What the header of an adapter's weights says, read without its tensors and without torch."""

from __future__ import annotations

import json
import struct
from typing import BinaryIO

from seqedit.errors import CheckFailed

WEIGHTS = "adapter_model.safetensors"
_PREFIX, _SUFFIX = "base_model.model.", ".lora_A.weight"
_MAX = 2 << 20  # bytes of a header, as `seqedit.adapters.files` has it


def key_dimensions(stream: BinaryIO) -> dict[str, int]:
    """Module name -> length of its keys (d_in), of the modules that an adapter changes.

    Args:
        stream: The adapter's weights, at their beginning: a safetensors file.

    Raises:
        CheckFailed: they are no such file.
    """
    start = stream.read(8)
    size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 0 < size <= _MAX:
        raise CheckFailed("an adapter's weights do not begin as a safetensors file does; run verify")
    try:
        header = json.loads(stream.read(size))
        return {
            name.removeprefix(_PREFIX).removesuffix(_SUFFIX): int(tensor["shape"][1])
            for name, tensor in sorted(header.items())
            if name.endswith(_SUFFIX)
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CheckFailed(f"the header of an adapter's weights is malformed ({error}); run verify") from error
