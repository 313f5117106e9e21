"""Which model this is: a digest of its weights."""

from __future__ import annotations

from seqedit.adapters.adapter import BaseModel
from seqedit.errors import ModelError
from seqedit.forward.protocols import CausalLM
from seqedit.support.digests import tensors_digest


def fingerprint(model: CausalLM) -> str:
    """SHA-256 (hex) over the names, dtypes, shapes and bytes of all parameters, tied ones once.

    Raises:
        ModelError: if weights are not in memory (offloaded to the meta device).
    """
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise ModelError(f"weight '{name}' is not in memory (offloaded); load the model without offloading")
    return tensors_digest(model.named_parameters())


def base_model_of(model: CausalLM) -> BaseModel:
    """Name and fingerprint of a model that is not edited yet."""
    name = getattr(model, "name_or_path", "") or type(model).__name__
    return BaseModel(str(name), fingerprint(model))
