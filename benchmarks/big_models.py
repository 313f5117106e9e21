"""Large models with random weights, built from their published shapes: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.world import MODELS, Subject
from seqedit.editing.settings import method_config
from seqedit.errors import InputError
from seqedit.methods.config import ClosedFormConfig
from seqedit.models.anatomy import anatomy
from seqedit.models.loading import load_model

SHAPES: Mapping[str, tuple[str, dict[str, int]]] = MappingProxyType(
    {
        "gpt2-xl": ("gpt2", {"n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024, "vocab_size": 50257}),
        "gpt-j-6b": (
            "gptj",
            {"n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64, "n_positions": 2048, "vocab_size": 50400},
        ),
        "llama-2-7b": (
            "llama",
            {
                "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
                "num_key_value_heads": 32, "max_position_embeddings": 4096, "vocab_size": 32000,
            },
        ),
    }
)  # fmt: skip
"""Preset's name -> transformers' model type and the numbers of its configuration."""

TINY: Mapping[str, dict[str, int]] = MappingProxyType(
    {
        "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
        "gptj": {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4, "n_positions": 128},
        "llama": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 4, "max_position_embeddings": 128,
        },
    }
)  # fmt: skip
"""What is smaller of each in a run that only shows that it works."""


def big_subject(name: str, dtype: str, device: str, *, tiny: bool = False) -> Subject:
    """A model of a published shape with random weights, MEMIT's settings of its preset, and the demo world's tokenizer.

    The tokenizer's ids are below the vocabulary's size, so that facts of the demo world can be edited; its prompts have
    about as many tokens as CounterFact's. The loss of random weights hardly falls, so no request converges early.

    Args:
        name: One of `SHAPES`.
        dtype: Of the weights: float32, bfloat16 or float16.
        device: Where to build it.
        tiny: A few narrow layers instead; the last but one is edited.

    Raises:
        InputError: unknown name or dtype.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if name not in SHAPES:
        raise InputError(f"no shape '{name}' (known: {', '.join(SHAPES)})")
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise InputError(f"unknown dtype '{dtype}'; use float32, bfloat16 or float16")
    family, numbers = SHAPES[name]
    settings = AutoConfig.for_model(family, **{**numbers, **(TINY[family] if tiny else {})})
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(settings, dtype=kind).eval()
    _, tokenizer = load_model(MODELS[1], device="cpu")
    config = method_config("memit", preset=name)
    assert isinstance(config, ClosedFormConfig)
    if tiny:
        config = replace(config, layers=(1,), spread="single", steps=3)
    # Of usual lengths; templates sampled from random weights would be of random words.
    openings = ("The", "Therefore", "Because", "I", "You")
    contexts = (("{}",), tuple(f"{opening} the old town is known for its wine. {{}}" for opening in openings))
    return Subject(name, model, tokenizer, anatomy(model), contexts, config)
