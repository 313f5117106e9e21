"""A process's own copy of a model that several processes hold."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import Anatomy, anatomy


class Replica:
    """A rank's copy of the model.

    Attributes:
        model: The causal LM.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: CausalLM, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())

    @cached_property
    def parts(self) -> Anatomy:
        """The model's anatomy."""
        return anatomy(self.model)

    def versions(self) -> dict[str, int]:
        """Parameter -> how often it was written to, as torch counts."""
        return {name: parameter._version for name, parameter in self.parameters.items()}

    def checksums(self) -> Tensor:
        """(parameters,) sums of their bytes as integers; exact, so equal on any device."""
        return torch.stack([_sum(p.detach()) for p in self.parameters.values() if not p.is_meta])


def _sum(tensor: Tensor) -> Tensor:
    data = tensor.contiguous().view(-1).view(torch.uint8)
    # Eight bytes at a time where they lie so, which is as fast as memory; the sum may wrap around.
    whole = data.numel() // 8 * 8 if data.storage_offset() % 8 == 0 else 0
    return (data[:whole].view(torch.int64).sum() + data[whole:].sum(dtype=torch.int64)).cpu()
