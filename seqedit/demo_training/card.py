"""Model cards of the demo models, with measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqedit.forward.configuration import text_config

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [knowledge-editing, demo]
---
# Demo model, {style} style

A small causal language model of a closed world of {facts:,} facts about invented people, products, companies and
towns. It exists to edit its knowledge: it knows nothing about the real world.

- Shape: {shape}; {parameters:,} parameters, float32, {bytes:,} bytes in all.
- Tokenizer: byte-level BPE, {vocabulary:,} tokens; {bos}.
- Training: {training} on 2 CPU cores; seed {seed}.
- Data: `seqedit.demo.corpus(seqedit.demo.world({seed}))`, a new draw of contexts in every epoch. One phrasing and one
  question form of each fact, and the tasks' validation documents, never occur.

Measured with `python -m seqedit.demo_training.check DIR`. Recall: all target tokens are the most likely ones.

| What | Score |
|---|---|
| fact recall, held-out phrasing | {held_out:.4f} |
| fact recall, trained phrasing | {trained:.4f} |
| fact recall, held-out phrasing after another sentence | {prefixed:.4f} |
| fact recall, held-out question form | {question:.4f} |
| CoLA layout, Matthews correlation | {cola:.3f} |
| SST-2 layout, accuracy | {sst2:.3f} |
| MRPC layout, accuracy | {mrpc:.3f} |
| RTE layout, accuracy | {rte:.3f} |
| perplexity per token of the held-out text | {perplexity:.2f} |
"""


def card_text(figures: dict[str, Any], model: Any, tokenizer: Any, training: str, seed: int) -> str:
    """The model card.

    Args:
        figures: what ``seqedit.demo_training.check.check`` measured.
        model: the model.
        tokenizer: its tokenizer.
        training: the command that trained it, and its time.
        seed: of the world and the initial weights.

    Returns:
        Markdown with YAML front matter.
    """
    config = text_config(model)
    if config.model_type == "gpt2":
        shape = (
            f"{config.n_layer} layers, width {config.n_embd}, feed-forward {config.n_inner}, "
            f"{config.n_head} heads, context {config.n_positions}"
        )
    else:
        shape = (
            f"{config.num_hidden_layers} layers, width {config.hidden_size}, gated feed-forward "
            f"{config.intermediate_size}, {config.num_attention_heads} heads, "
            f"context {config.max_position_embeddings}"
        )
    shape += ", tied embeddings" if config.tie_word_embeddings else ", untied embeddings"
    adds_bos = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    tasks = figures["tasks"]
    return _CARD.format(
        style=config.model_type,
        shape=shape,
        vocabulary=len(tokenizer),
        training=training,
        seed=seed,
        bos="adds `<s>` before every text" if adds_bos else "adds nothing to a text",
        facts=figures["facts"],
        parameters=figures["parameters"],
        bytes=figures["bytes"],
        perplexity=figures["perplexity"],
        cola=tasks["cola"]["mcc"],
        **{name: tasks[name]["acc"] for name in ("sst2", "mrpc", "rte")},
        **figures["recall"],
    )


def write_card(model_dir: Path, training: str, seed: int) -> dict[str, Any]:
    """Measures a model and writes its card as ``README.md``.

    Args:
        model_dir: directory of the model.
        training: the command that trained it, and its time.
        seed: of the world and the initial weights.

    Returns:
        The measurements.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from seqedit.demo_training.check import check

    figures = check(model_dir, seed)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    text = card_text(figures, model, tokenizer, training, seed)
    (model_dir / "README.md").write_text(text, encoding="utf-8")
    return figures
