"""How much of the world a model knows, and how well it predicts plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from seqedit.demo.world import Fact


@torch.no_grad()
def recalled(
    model: Any, tokenizer: Any, prompts: Sequence[str], targets: Sequence[str], batch: int = 128
) -> list[bool]:
    """Whether every token of the target is the most likely one after the prompt (teacher forcing).

    Args:
        model: causal language model.
        tokenizer: its tokenizer; a BOS that it adds is kept.
        prompts: texts that end right before the target.
        targets: continuations without their leading space.
        batch: prompts per forward pass.

    Returns:
        One answer per prompt.
    """
    out: list[bool] = []
    for start in range(0, len(prompts), batch):
        texts = list(prompts[start : start + batch])
        heads = tokenizer(texts)["input_ids"]
        tails = tokenizer([" " + t for t in targets[start : start + batch]], add_special_tokens=False)["input_ids"]
        width = max(len(head) + len(tail) for head, tail in zip(heads, tails, strict=True))
        ids = torch.full((len(heads), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
            ids[row, : len(head) + len(tail)] = torch.tensor(head + tail)
            mask[row, : len(head) + len(tail)] = 1
        best = model(input_ids=ids, attention_mask=mask).logits.argmax(-1)
        for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
            out.append(best[row, len(head) - 1 : len(head) + len(tail) - 1].tolist() == tail)
    return out


def fact_recall(model: Any, tokenizer: Any, facts: Sequence[Fact], form: str = "held_out") -> float:
    """Share of facts that the model completes rightly.

    Args:
        model: causal language model.
        tokenizer: its tokenizer.
        facts: the facts to ask for.
        form: ``held_out`` (the phrasing the corpus never uses for the fact), ``trained`` (the first other phrasing),
            ``question`` (the held-out question form) or ``prefixed`` (the held-out phrasing after another sentence).

    Returns:
        Share from 0 to 1.

    Raises:
        KeyError: if the form is unknown.
    """
    template = {
        "held_out": lambda fact: fact.unseen,
        "trained": lambda fact: fact.trained[0],
        "question": lambda fact: fact.relation.questions[fact.held_out_question],
        "prefixed": lambda fact: f"The meeting ended without a vote. {fact.unseen}",
    }[form]
    prompts = [template(fact).format(fact.subject) for fact in facts]
    known = recalled(model, tokenizer, prompts, [fact.object for fact in facts])
    return sum(known) / len(known)


@torch.no_grad()
def perplexity(model: Any, tokenizer: Any, text: str) -> float:
    """Perplexity per token of a text, one paragraph at a time, first tokens not counted.

    Args:
        model: causal language model.
        tokenizer: its tokenizer.
        text: paragraphs separated by newlines.

    Returns:
        exp of the mean negative log-likelihood in nats.
    """
    total, count = 0.0, 0
    for paragraph in text.splitlines():
        ids = tokenizer(paragraph, return_tensors="pt")["input_ids"]
        logits = model(input_ids=ids).logits
        total += float(cross_entropy(logits[0, :-1].float(), ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return float(torch.tensor(total / count).exp())
