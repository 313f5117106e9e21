"""Trains one of the shipped demo models: ``python -m seqedit.demo.train --style gpt2|llama --out DIR``.

A wide feed-forward layer on a narrow residual stream gives edits a large key space: with 512 instead of 1,792 keys,
editing 64 facts at once overwrites most of the others.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from seqedit.demo.card import write_card
from seqedit.demo.corpus import corpus
from seqedit.demo.packing import batches
from seqedit.demo.tokenizer import CONTEXT_LENGTH, train_tokenizer
from seqedit.demo.world import DEFAULT_SEED, World, world

STYLES = ("gpt2", "llama")
TOKENS_PER_STEP = 3072
_WARMUP = 100
_TOKENIZER_DOCUMENTS = 12_000


def build_model(style: str, tokenizer: Any) -> Any:
    """An untrained model of one of the two shipped shapes.

    Args:
        style: ``gpt2`` (tied embeddings, Conv1D) or ``llama`` (untied, gated feed-forward, rotary positions).
        tokenizer: its vocabulary and special tokens go into the config.

    Returns:
        The model, float32.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}
    if style == "gpt2":
        return GPT2LMHeadModel(GPT2Config(
            vocab_size=len(tokenizer), n_positions=CONTEXT_LENGTH, n_embd=128, n_layer=6, n_head=4, n_inner=1792,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ids,
        ))
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=1152, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=False, **ids,
    ))


def _stream(the_world: World, tokenizer: Any, seed: int) -> Iterator[list[list[int]]]:
    """Batches without end; every epoch is a new draw of the corpus."""
    epoch = 0
    while True:
        documents = tokenizer(corpus(the_world, epoch))["input_ids"]
        yield from batches(documents, Random(f"{seed}:rows:{epoch}"), TOKENS_PER_STEP, tokenizer.eos_token_id)
        epoch += 1


def _learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then cosine to a fiftieth of the peak."""
    if step < _WARMUP:
        return peak * (step + 1) / _WARMUP
    done = (step - _WARMUP) / max(1, steps - _WARMUP)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def train(style: str, steps: int, peak: float, seed: int) -> tuple[Any, Any, float]:
    """Trains a model on the demo world.

    Args:
        style: ``gpt2`` or ``llama``.
        steps: optimiser steps of ``TOKENS_PER_STEP`` tokens.
        peak: highest learning rate.
        seed: of the initial weights and of the world.

    Returns:
        The model, its tokenizer, and the seconds taken.
    """
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    the_world = world(seed)
    tokenizer = train_tokenizer(corpus(the_world)[:_TOKENIZER_DOCUMENTS], style)
    model = build_model(style, tokenizer).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=peak, betas=(0.9, 0.98), fused=True,
    )
    began = time.monotonic()
    running = 0.0
    for step, batch in zip(range(steps), _stream(the_world, tokenizer, seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps, peak)
        ids = torch.tensor(batch)
        # bfloat16 matrix products are 1.4 times faster where the CPU has them; weights stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running = loss.item() if not step else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {running:.3f}  {time.monotonic() - began:6.0f} s", file=sys.stderr, flush=True)
    return model.eval(), tokenizer, time.monotonic() - began


def main() -> None:
    """Trains, and writes safetensors, config, tokenizer and a model card with measured figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", choices=STYLES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--peak", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    args = parser.parse_args()
    model, tokenizer, seconds = train(args.style, args.steps, args.peak, args.seed)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    print(f"trained in {seconds / 60:.1f} minutes, saved to {args.out}", file=sys.stderr)
    print(json.dumps(write_card(args.out, args.steps, seconds / 60, args.seed), indent=1))


if __name__ == "__main__":
    main()
