"""Likelihoods and texts by several processes: what measures a model, a share of the batches on every rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evals.likelihood.decoding import generate, generate_share
from evals.likelihood.teacher_forcing import Continuation, Progress, score_continuations, score_share
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.parallel.messages import Message
from seqedit.parallel.ranks import Job, Ranks
from seqedit.parallel.replica import Replica
from seqedit.support.shares import ProcessShare
from seqedit.text.chat import Rendered


class SplitScoring:
    """Measures the model that some ranks hold; alone, or where they hold another, it is the plain functions.

    Args:
        ranks: The processes.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or Ranks()

    def scorer(
        self,
        model: CausalLM,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        *,
        max_tokens_per_batch: int = 16_384,
        progress: Progress | None = None,
    ) -> list[Continuation]:
        """`evals.likelihood.teacher_forcing.score_continuations`; ``progress`` is not told, there being several."""
        if not self._ranks.holds(model):
            return score_continuations(model, pairs, max_tokens_per_batch=max_tokens_per_batch, progress=progress)
        fields = {
            "contexts": [list(map(int, context)) for context, _ in pairs],
            "continuations": [list(map(int, continuation)) for _, continuation in pairs],
            "max_tokens_per_batch": max_tokens_per_batch,
        }
        found: dict[int, Continuation] = {}

        def take(answer: Message) -> None:
            columns = (answer.tensors[name].tolist() for name in ("pair", "nll", "tokens", "correct"))
            predicted, start = answer.tensors["predicted"].tolist(), 0
            for pair, nll, tokens, correct in zip(*columns, strict=True):
                found[pair] = Continuation(nll, tokens, correct, tuple(predicted[start : start + tokens]))
                start += tokens

        self._ranks.run(model, "score", fields, take)
        return [found[pair] for pair in range(len(pairs))]

    def generator(
        self,
        model: CausalLM,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 100,
        seed: int = 0,
        top_k: int = 5,
        batch_size: int = 16,
    ) -> list[str]:
        """`evals.likelihood.decoding.generate`."""
        options: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "seed": seed,
            "top_k": top_k,
            "batch_size": batch_size,
        }
        if not self._ranks.holds(model):
            return generate(model, tokenizer, prompts, **options)
        texts: dict[int, str] = {}

        def take(answer: Message) -> None:
            texts.update(zip(answer.fields["places"], answer.fields["texts"], strict=True))

        rendered = [isinstance(prompt, Rendered) for prompt in prompts]  # which JSON does not tell
        self._ranks.run(model, "generate", {"prompts": list(prompts), "rendered": rendered, "options": options}, take)
        return [texts[place] for place in range(len(prompts))]


def _score(replica: Replica, share: ProcessShare, given: Mapping[str, Any]) -> Message:
    pairs = list(zip(given["contexts"], given["continuations"], strict=True))
    limit = given["max_tokens_per_batch"]
    found = score_share(replica.model, pairs, share, max_tokens_per_batch=limit)
    values = found.values()
    return Message({}, {
        "pair": torch.tensor(list(found), dtype=torch.long),
        "nll": torch.tensor([value.nll for value in values], dtype=torch.float64),
        "tokens": torch.tensor([value.tokens for value in values], dtype=torch.long),
        "correct": torch.tensor([value.correct for value in values], dtype=torch.long),
        "predicted": torch.tensor([token for value in values for token in value.predicted], dtype=torch.long),
    })  # fmt: skip


def _generate(replica: Replica, share: ProcessShare, given: Mapping[str, Any]) -> Message:
    pairs = zip(given["prompts"], given["rendered"], strict=True)
    prompts = [Rendered(prompt) if rendered else prompt for prompt, rendered in pairs]
    found = generate_share(replica.model, replica.tokenizer, prompts, share, **given["options"])
    return Message({"places": list(found), "texts": list(found.values())})


JOBS: Mapping[str, Job] = {"score": _score, "generate": _generate}
