"""Noise on the embeddings of a subject's tokens: how large, which, and put where."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.forward.access import input_device
from seqedit.forward.hooks import hooks, inference_state
from seqedit.forward.protocols import CausalLM
from seqedit.locating.prompts import TracePrompt


def embedding_std(model: CausalLM, prompts: Sequence[TracePrompt]) -> float:
    """Standard deviation of the embeddings of all subjects' tokens, over tokens and features alike (one number)."""
    ids = [token for p in prompts for token in p.ids[p.begin : p.end]]
    with torch.no_grad(), inference_state(model):
        vectors = model.get_input_embeddings()(torch.tensor([ids], device=input_device(model)))
    return float(vectors.double().std())


def unit_noise(model: CausalLM, prompt: TracePrompt, samples: int, name: str) -> Tensor:
    """(samples, subject tokens, embedding width) float32 on the CPU, the same for a name wherever it stands in a list.

    All restorations of a fact are measured under the same noise, so their differences are not the noise's.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        samples, prompt.end - prompt.begin, model.get_input_embeddings().weight.shape[-1], generator=generator
    )


@contextmanager
def noise_added(model: CausalLM, prompt: TracePrompt, noise: Tensor) -> Iterator[None]:
    """The embeddings of the subject's tokens with (rows, subject tokens, width) noise, for the time of a block."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, prompt.begin : prompt.end] += noise.to(changed)
        return changed

    with hooks(post={model.get_input_embeddings(): hook}):
        yield
