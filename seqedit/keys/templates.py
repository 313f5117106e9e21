"""Context templates: short texts, sampled from the model itself, that a request's prompt is put behind.

As in ROME and MEMIT: each of a few opening words is continued by at most ten tokens. Unlike there the sampling is
seeded and nothing is cached globally; the templates travel with the adapter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seqedit.forward.access import input_device
from seqedit.forward.finite import check_logits
from seqedit.forward.hooks import inference_state
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.text.lookup import BARE
from seqedit.text.tokenization import encode

OPENINGS = ("The", "Therefore", "Because", "I", "You")


def sample_context_templates(
    model: CausalLM,
    tokenizer: Tokenizer,
    *,
    seed: int,
    openings: Sequence[str] = OPENINGS,
    max_new_tokens: int = 10,
    top_k: int = 5,
) -> tuple[tuple[str, ...], ...]:
    """The bare prompt as one group, and one sampled template per opening as the other.

    Args:
        model: The causal LM.
        tokenizer: Its tokenizer.
        seed: Seed of the sampling.
        openings: Words to start from.
        max_new_tokens: Tokens added to each.
        top_k: Sample among the k most likely tokens.

    Returns:
        (("{}",), ("The ... . {}", ...)).
    """
    generator = torch.Generator().manual_seed(seed)
    sampled = []
    with torch.no_grad(), inference_state(model):
        for opening in openings:
            ids, _ = encode(tokenizer, opening)
            for _ in range(max_new_tokens):
                batch = torch.tensor([ids], device=input_device(model))
                logits = model(input_ids=batch, attention_mask=torch.ones_like(batch), use_cache=False).logits[0, -1]
                top = logits.float().cpu().topk(min(top_k, logits.shape[-1]))
                check_logits(logits)
                choice = int(torch.multinomial(top.values.softmax(-1), 1, generator=generator))
                token = int(top.indices[choice])
                if token == tokenizer.eos_token_id:
                    break
                ids.append(token)
            text = tokenizer.decode(ids, skip_special_tokens=True)
            text = " ".join(text.replace("{", " ").replace("}", " ").split())
            sampled.append(f"{text.rstrip('.')}. {{}}")
    return ((BARE,), tuple(sampled))
