"""What can be said of a model without its weights: whether it can be found, and its modules and shapes."""

from __future__ import annotations

from seqedit.models import names
from seqedit.models.anatomy import Anatomy, anatomy
from seqedit.models.loading import check_device, read_config, told, weight_type


def empty_anatomy(model: str) -> Anatomy:
    """Anatomy of a model without its weights: modules and shapes only.

    Raises:
        InputError: a directory that is no model.
        ModelError: a model that cannot be edited.
        EnvironmentFailure: its configuration cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    names.check_model(model)
    config = read_config(names.resolve_model(model))
    with torch.device("meta"), told(model, "no causal language model can be made by its configuration"):
        empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return anatomy(empty)


def check_model(model: str, *, dtype: str = "auto", device: str | None = None) -> Anatomy:
    """Refuse what loading a model would refuse, as far as that can be told without its weights.

    Returns:
        Its anatomy, without weights.

    Raises:
        InputError: a directory that is no model, or no such device or type.
        ModelError: a model that cannot be edited.
        EnvironmentFailure: its configuration cannot be read.
    """
    weight_type(dtype)
    if device is not None:
        check_device(device)
    return empty_anatomy(model)
