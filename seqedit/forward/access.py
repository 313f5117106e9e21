"""What every measurement asks of a causal language model, whatever its architecture."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from seqedit.errors import ModelError
from seqedit.forward.configuration import TRIED, ordinary_tokens, position_tables, stated_position_limit
from seqedit.forward.protocols import CausalLM, Tokenizer


@contextmanager
def evaluating(model: CausalLM | torch.nn.Module) -> Iterator[None]:
    """Put a model in eval mode without gradients; every module's own mode comes back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # not inference_mode: buffers that a model updates in forward (dynamic rotary tables)
        # would become inference tensors and break a later training step.
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def input_device(model: CausalLM) -> torch.device:
    """Where token ids must be for this model, also when it is spread over devices or its weights are offloaded.

    Raises:
        ModelError: its weights were never loaded.
    """
    embedding = model.get_input_embeddings()
    weight: torch.Tensor = embedding.weight
    if not weight.is_meta:
        return weight.device
    # Offloaded: accelerate's hook knows where the embedding is put for the time of a forward pass.
    device = getattr(getattr(embedding, "_hf_hook", None), "execution_device", None)
    if device is None:
        raise ModelError("the token embedding has no weights (meta device); load the model with its weights")
    return torch.device(device)


def position_limit(model: CausalLM) -> int | None:
    """Most tokens of one sequence: what the configuration states or a learned table has room for; None for no limit."""
    stated = stated_position_limit(model)
    if stated is not None and stated < TRIED:
        return stated
    tables = position_tables(model, lambda: _few_tokens(model))
    return min(tables if stated is None else [*tables, stated], default=None)


def _few_tokens(model: CausalLM) -> None:
    if model.get_input_embeddings().weight.is_meta:
        return  # no weights to look anything up in, or offloaded ones: the configuration has to do
    ids = torch.tensor([ordinary_tokens(model, TRIED)], device=input_device(model))
    with evaluating(model):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)


def too_long(what: str, text: str, tokens: int, limit: int) -> str:
    """What is said of a prompt that does not fit.

    Args:
        what: The prompt's name in its record, e.g. "paraphrase prompt 2".
        text: The prompt.
        tokens: How many tokens the model would have to read.
        limit: How many it can.
    """
    return f"{what} has {tokens} tokens with its target, but the model has {limit} positions: {text[:80]!r}"


def accepts(model: CausalLM, argument: str) -> bool:
    """Whether the model's forward takes an argument by name (PEFT and other wrappers are looked through)."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    return argument in inspect.signature(base.forward).parameters


def end_token_ids(model: CausalLM, tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that end a generated text: the generation config's (which may list several) and the tokenizer's."""
    ends: set[int] = set()
    for owner in (getattr(model, "generation_config", None), tokenizer):
        ids = getattr(owner, "eos_token_id", None)
        if ids is not None:
            ends.update([ids] if isinstance(ids, int) else ids)
    return frozenset(ends)


def output_head(model: CausalLM) -> torch.nn.Module:
    """The LM head: the module whose input is the last hidden state, (batch, t, d).

    Raises:
        ModelError: if the model names none; then it is no language model.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(head, torch.nn.Module):
        raise ModelError(f"model {type(model).__name__} has no LM head; load it as a causal language model")
    return head
