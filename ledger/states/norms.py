"""How far two states are apart, module by module, from the stored factors: asked of a history without torch.

NumPy multiplies the factors, in double precision. Files that are not what was recorded when their adapter was appended,
ledgers whose signatures are asked for and types that NumPy has not (bfloat16) are left to the full reading of
`ledger.reading.Reader.adapter`, which also says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from ledger.objects.manifest import FileInfo
from ledger.objects.objects import ObjectStore
from ledger.states.deltas import read_files
from seqedit.adapters.file_names import FORMATS
from seqedit.adapters.sidecar import load_json
from seqedit.errors import EnvironmentFailure, SeqeditError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Factors = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

_PREFIX = "base_model.model."


def stored_norms(
    store: ObjectStore,
    added: Iterable[str],
    removed: Iterable[str],
    recorded: Mapping[str, Mapping[str, FileInfo]],
) -> dict[str, float] | None:
    """Frobenius norm of the sum of some stored adapters' deltas less that of others.

    Args:
        store: The objects.
        added: Digests of the adapters that one state has and the other has not.
        removed: Digests of those that only the other one has.
        recorded: What `ledger.states.deltas.load_recorded` gave for all of them.

    Returns:
        Module name -> norm, sorted; None where a file cannot be read so.

    Raises:
        EnvironmentFailure: the store cannot be reached.
    """
    import numpy as np

    parts: dict[str, list[Factors]] = {}
    try:
        for digests, sign in ((added, 1.0), (removed, -1.0)):
            for digest in digests:
                for name, (b, a) in _factors(store, digest, recorded[digest]).items():
                    parts.setdefault(name, []).append((sign * b, a))
    except EnvironmentFailure:
        raise
    except (SeqeditError, SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return {
        name: float(np.linalg.norm(np.hstack([b for b, _ in parts[name]]) @ np.vstack([a for _, a in parts[name]])))
        for name in sorted(parts)
    }


def _factors(store: ObjectStore, digest: str, recorded: Mapping[str, FileInfo]) -> dict[str, Factors]:
    """Module name -> B (d_out, r) and A (r, d_in) with Delta = B A; of a dense delta B is the identity."""
    from safetensors.numpy import load

    sidecar, weights = read_files(store, digest, recorded)
    described: dict[str, Any] = load_json(sidecar)
    if described["format"] not in FORMATS:
        raise ValueError(f"format {described['format']}")
    tensors = load(weights)
    return {
        name: (
            tensors[f"{_PREFIX}{name}.lora_B.weight"].astype("float64"),
            tensors[f"{_PREFIX}{name}.lora_A.weight"].astype("float64"),
        )
        for name in described["modules"]
    }
