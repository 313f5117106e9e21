"""The baseline of scoring: every prompt with every target is a forward pass of its own, all positions get logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from seqedit.facts.requests import Record
from seqedit.forward.access import input_device
from seqedit.forward.batching import pad_right
from seqedit.forward.hooks import inference_state
from seqedit.text.tokenization import prompt_and_target_ids


def plain_scores(
    model: Any, tokenizer: Any, records: Sequence[Record], *, by_record: bool = False
) -> list[list[float | None]]:
    """Mean NLL of the new and the true target after every prompt of every record.

    Args:
        model: The causal LM.
        tokenizer: Its fast tokenizer.
        records: What to score.
        by_record: All prompts of a record with both targets in one padded pass, as CounterFact's public evaluation has
            it, instead of one pass for each.

    Returns:
        For each record [new, true, new, true, ...] over its request, paraphrases and neighbours; None where there is no
        true target.
    """
    with torch.no_grad(), inference_state(model):
        return [_record(model, tokenizer, record, by_record) for record in records]


def _record(model: Any, tokenizer: Any, record: Record, by_record: bool) -> list[float | None]:
    new, true = record.request.target_new, record.request.target_true
    asked: list[tuple[str, str | None]] = []
    for prompt in (record.request.text, *record.paraphrase_prompts):
        asked += [(prompt, new), (prompt, true)]
    for neighbor in record.neighborhood_prompts:
        asked += [(neighbor.prompt, new), (neighbor.prompt, neighbor.target_true or true)]
    pairs = [(place, prompt, target) for place, (prompt, target) in enumerate(asked) if target is not None]
    found: list[float | None] = [None] * len(asked)
    size = len(pairs) if by_record else 1
    for start in range(0, len(pairs), size):
        batch = pairs[start : start + size]
        for (place, _, _), nll in zip(batch, _passed(model, tokenizer, [(p, t) for _, p, t in batch]), strict=True):
            found[place] = nll
    return found


def _passed(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """One forward pass; mean NLL of each pair's target."""
    ids_of = [prompt_and_target_ids(tokenizer, prompt, target) for prompt, target in pairs]
    ids, mask = pad_right([[*context, *target] for context, target in ids_of], input_device(model))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    logprobs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    found = []
    for row, (context, target) in enumerate(ids_of):
        at = torch.arange(len(context) - 1, len(context) + len(target) - 1, device=logprobs.device)
        wanted = torch.tensor(target, device=logprobs.device)
        found.append(-float(logprobs[row, at, wanted].mean()))
    return found
