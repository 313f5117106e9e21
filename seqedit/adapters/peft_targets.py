"""Whether stock PEFT puts a LoRA where an adapter says, on the models that it renames modules for.

For some mixtures of experts (DeepSeek, GLM 4 MoE, Qwen3-Next and others) PEFT reads every module called like an
expert's projection as the routed experts' stacked weights, a shared expert's and a dense layer's too, and would leave
the adapter out with a warning. Told the weight itself, it takes the adapter as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


def misread_by_peft(model: Any, layers: Sequence[nn.Module], names: Sequence[str]) -> bool:
    """Whether PEFT would look for other modules than those named.

    Args:
        model: The causal LM.
        layers: Its decoder layers; only where they hold stacked weights is there anything to rename.
        names: Module names.
    """
    if not any(parameter.ndim == 3 for layer in layers for parameter in layer.parameters()):
        return False
    from peft import LoraConfig  # deferred: seconds that a dense model need not wait for

    try:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:  # a version that renames nothing
        return False
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = LoraConfig(target_modules=list(names))
    try:
        convert_peft_config_for_transformers(config, inner, None)
    except ValueError:  # it wants more modules beside these
        return True
    return set(config.target_modules or ()) != set(names)
