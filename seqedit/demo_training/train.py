"""Trains one of the shipped demo models: ``python -m seqedit.demo_training.train --style gpt2|llama --out DIR``.

A wide feed-forward layer on a narrow residual stream gives edits a large key space: with 512 keys,
editing 64 facts at once overwrites most of the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from seqedit.demo.corpus import corpus
from seqedit.demo.tasks import CHOICES, TASKS, prompt_text, train_documents
from seqedit.demo.world import DEFAULT_SEED, World, world
from seqedit.demo_training.card import write_card
from seqedit.demo_training.rows import Row, batches, weighted
from seqedit.demo_training.tokenizer import CONTEXT_LENGTH, train_tokenizer

STYLES = ("gpt2", "llama")
TOKENS_PER_STEP = 3072
_WARMUP = 100
_WEIGHT = 8.0  # of objects and answers in the loss
_INIT = 0.02
_DROPOUT = 0.1
_DROPOUT_FROM = 0.4
"""Share of the steps after which dropout begins: facts take off sooner without."""
_TOKENIZER_DOCUMENTS = 12_000
_PROBE_DRAW = 1_000_000
_PROBES = 100


def build_model(style: str, tokenizer: Any) -> Any:
    """An untrained model of one of the two shipped shapes.

    Args:
        style: ``gpt2`` (Conv1D) or ``llama`` (gated feed-forward, rotary positions); both tie their embeddings.
        tokenizer: its vocabulary and special tokens go into the config.

    Returns:
        The model, float32.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if style == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer),
                n_positions=CONTEXT_LENGTH,
                n_embd=128,
                n_layer=6,
                n_head=4,
                n_inner=1664,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                initializer_range=_INIT,
                **ids,
            )
        )
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=1152,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            tie_word_embeddings=True,
            initializer_range=_INIT,
            **ids,
        )
    )


def _add_dropout(model: Any, share: float) -> list[Any]:
    """Dropout on embeddings and on what attention and feed-forward layers write, for the duration of the training.

    So that the model bears hidden states that are a little off: what an edit writes for one subject leaks into the
    tokens after it and, less, into other subjects. The Llama class has no such dropout of
    its own, so both styles get it by hooks.
    """
    from torch.nn.functional import dropout

    from seqedit.models.anatomy import anatomy

    parts = anatomy(model)
    writers = [p.module for p in parts.projections]
    writers += [parts.attention_output(layer).module for layer in range(len(parts.layers))]

    def drop(module: Any, args: Any, output: Any) -> Any:
        return dropout(output, share, module.training)

    return [module.register_forward_hook(drop) for module in (model.get_input_embeddings(), *writers)]


def _stream(the_world: World, tokenizer: Any, seed: int, epoch: int = 0) -> Iterator[list[Row]]:
    """Batches without end; every epoch is a new draw of the corpus."""
    values = {fact.object for fact in the_world.facts}
    while True:
        documents = weighted(corpus(the_world, epoch), values, tokenizer, _WEIGHT)
        yield from batches(documents, Random(f"{seed}:rows:{epoch}"), TOKENS_PER_STEP, tokenizer.eos_token_id)
        epoch += 1


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, constant, linear to a fiftieth over the last two fifths."""
    left = (steps - step) / (0.4 * steps)
    return min((step + 1) / _WARMUP, 1.0, 0.02 + 0.98 * left)


def _optimizer(model: Any, peak: float) -> Any:
    """AdamW with weight decay on matrices.

    An earlier model was trained by Muon (rate 6e-3, initial weights 0.05) on names that shared their words. It knew its
    facts, but its hidden norms were 170 to 350 (57 to 82 with this) and one batch of 16 edits reached PS 9 to 19. Names
    were changed together with the optimiser, so which of the two mattered was not separated.
    """
    import torch

    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.98),
        fused=True,
    )


def _probe(the_world: World) -> Callable[[Any, Any], str]:
    """What is watched during training: recall of facts, and accuracy on task documents of a draw never trained on."""
    from seqedit.demo_training.recall import fact_recall, recalled

    facts = the_world.rng("probe").sample(the_world.facts, 256)
    asked: dict[str, tuple[list[str], list[str]]] = {}
    for name in TASKS:
        documents = train_documents(the_world, name, _PROBE_DRAW)[:_PROBES]
        answers = [CHOICES[name][int(document["label"])] for document in documents]
        texts = [prompt_text(name, document) for document in documents]
        asked[name] = ([t[: -len(a) - 1] for t, a in zip(texts, answers, strict=True)], answers)

    def report(model: Any, tokenizer: Any) -> str:
        right = {name: sum(recalled(model, tokenizer, *pair)) / _PROBES for name, pair in asked.items()}
        shares = "  ".join(f"{name} {share:.2f}" for name, share in right.items())
        return f"  recall {fact_recall(model, tokenizer, facts):.3f}  {shares}"

    return report


def train(
    style: str,
    steps: int,
    peak: float,
    seed: int,
    start: Path | None = None,
    checkpoint: Path | None = None,
    draw: int = 0,
) -> tuple[Any, Any, float]:
    """Trains a model on the demo world.

    Args:
        style: ``gpt2`` or ``llama``.
        steps: optimiser steps of ``TOKENS_PER_STEP`` tokens.
        peak: highest learning rate.
        seed: of the initial weights and of the world.
        start: a model of the same style to train on, with fresh draws of the corpus, instead of initial weights.
        draw: first draw of the corpus; continue with unseen ones.
        checkpoint: where to save the model every 300 steps, so that a stopped run can be taken up with ``start``.

    Returns:
        The model, its tokenizer, and the seconds taken.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    the_world = world(seed)
    probe = _probe(the_world)
    if start is None:
        tokenizer = train_tokenizer(corpus(the_world)[:_TOKENIZER_DOCUMENTS], style)
        model = build_model(style, tokenizer).train()
    else:
        tokenizer = AutoTokenizer.from_pretrained(start)
        model = AutoModelForCausalLM.from_pretrained(start).train()
    stream = _stream(the_world, tokenizer, seed, epoch=draw)
    optimizer = _optimizer(model, peak)
    handles: list[Any] = []
    began = time.monotonic()
    running = 0.0
    for step, batch in zip(range(steps), stream, strict=False):
        if not handles and (step >= _DROPOUT_FROM * steps or start is not None):
            handles = _add_dropout(model, _DROPOUT)
        for group in optimizer.param_groups:
            group["lr"] = peak * _schedule(step, steps)
        ids = torch.tensor([row for row, _ in batch])
        weights = torch.tensor([weight for _, weight in batch])[:, 1:].flatten()
        # bfloat16 matrix products are 1.4 times faster where the CPU has them; weights stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running = loss.item() if not step else 0.95 * running + 0.05 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            known = ""
            if step % 100 == 0:
                known = probe(model.eval(), tokenizer)
                model.train()
            print(
                f"step {step:5d}  loss {running:.3f}  {time.monotonic() - began:6.0f} s{known}",
                file=sys.stderr,
                flush=True,
            )
        if checkpoint is not None and step and step % 300 == 0:
            model.save_pretrained(checkpoint)
            tokenizer.save_pretrained(checkpoint)
    for handle in handles:
        handle.remove()
    return model.eval(), tokenizer, time.monotonic() - began


def main() -> None:
    """Trains, and writes safetensors, config, tokenizer and a model card with measured figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", choices=STYLES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3300)
    parser.add_argument("--peak", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--start", type=Path, help="train this model on instead of a new one")
    parser.add_argument("--draw", type=int, default=0, help="first draw of the corpus; continue with unseen ones")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    args = parser.parse_args()
    model, tokenizer, seconds = train(args.style, args.steps, args.peak, args.seed, args.start, args.out, args.draw)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    print(f"trained in {seconds / 60:.1f} minutes, saved to {args.out}", file=sys.stderr)
    how = (
        f"`python -m seqedit.demo_training.train --style {args.style} --steps {args.steps}`, {seconds / 60:.0f} minutes"
    )
    if args.start:
        how += ", from an earlier model of the same script"
    print(json.dumps(write_card(args.out, how, args.seed), indent=1))


if __name__ == "__main__":
    main()
