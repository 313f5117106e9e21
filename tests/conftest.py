"""Shared fixtures: the reference model, tiny random models, offline mode."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

DATA = Path(__file__).parent / "data"
REFERENCE = DATA / "reference"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real records beside the repository; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("needs the folder shared/data with real CounterFact, zsRE and GLUE records")
    return folder


@pytest.fixture(scope="session")
def reference_model() -> tuple[Any, Any]:
    """The small GPT-2-style model that the reference vectors were made on; tests must leave it unchanged."""
    from seqedit.models.loading import load_model

    return load_model(str(REFERENCE / "model"))


@pytest.fixture(scope="session")
def llama() -> tuple[Any, Any]:
    """A tiny random Llama with the reference tokenizer made to add a BOS."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(REFERENCE / "model")
    bos = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", pair="<|endoftext|> $A $B", special_tokens=[("<|endoftext|>", bos)]
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=bos, eos_token_id=bos, pad_token_id=bos,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # larger weights than the default 0.02, so that hidden states are worth editing
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model, tokenizer
