"""Prompts that a model has too few positions for: found before anything is edited, and named by their record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqedit.errors import RequestError
from seqedit.facts.checks import short
from seqedit.facts.requests import Record, Request
from seqedit.forward.access import too_long
from seqedit.forward.protocols import Tokenizer
from seqedit.text.chat import frame_of, in_turn
from seqedit.text.lookup import BARE, tokenize_request
from seqedit.text.tokenization import encode, prompt_and_target_ids

_SPECIAL = 8
"""Special tokens that a tokenizer may add, at most. Every other token stands for a byte or more."""
_SAMPLED = 24
"""Tokens of a sampled context template, at most: an opening word, ten more, and what joins them to the prompt."""


def check_requests(
    tokenizer: Tokenizer, requests: Iterable[Request], limit: int | None, contexts: Sequence[Sequence[str]] = ((BARE,),)
) -> None:
    """Refuse requests that are too long to be edited in one of the contexts.

    Args:
        tokenizer: The model's tokenizer.
        requests: The batch.
        limit: The model's positions; None for no limit.
        contexts: Groups of context templates.

    Raises:
        RequestError: names the request and the context.
    """
    if limit is None:
        return
    flat = sorted({context for group in contexts for context in group} | {BARE}, key=lambda c: (c != BARE, c))
    for position, request in enumerate(requests):
        for context in flat:
            if request.chat_template is None and _fits(limit, context, request.text, request.target_new):
                continue
            tokens = len(tokenize_request(tokenizer, request, context, with_target=True).ids)
            if tokens > limit:
                what = "the prompt" if context == BARE else f"the prompt in the context {short(context, 40)}"
                raise RequestError(f"request {_name(request, position)}: {too_long(what, request.text, tokens, limit)}")


def check_records(
    tokenizer: Tokenizer, records: Iterable[Record], limit: int | None, *, generation: bool = True
) -> None:
    """Refuse records one of whose prompts is too long to be scored.

    Args:
        tokenizer: The model's tokenizer.
        records: The records.
        limit: The model's positions; None for no limit.
        generation: Whether their generation prompts are continued too.

    Raises:
        RequestError: names the record and the prompt.
    """
    if limit is None:
        return
    for position, record in enumerate(records):
        request = record.request
        frame = frame_of(tokenizer, request.chat_template)
        room = limit if frame is None else limit - len(f"{frame.before}{frame.after}".encode("utf-8", "replace"))
        prompts: list[tuple[str, str, Sequence[str | None]]] = [
            ("the prompt", request.text, (request.target_new, request.target_true)),
            *(
                (f"paraphrase prompt {i}", text, (request.target_new, request.target_true))
                for i, text in enumerate(record.paraphrase_prompts, 1)
            ),
            *(
                (f"neighborhood prompt {i}", n.prompt, (request.target_new, n.target_true or request.target_true))
                for i, n in enumerate(record.neighborhood_prompts, 1)
            ),
        ]
        prompts += [(f"{p.kind} prompt {i}", p.prompt, p.answers) for i, p in enumerate(record.probes, 1)]
        if generation:
            prompts += [(f"generation prompt {i}", text, ("",)) for i, text in enumerate(record.generation_prompts, 1)]
        for what, text, targets in prompts:
            for target in targets:
                if target is None or _fits(room, text, target):
                    continue
                if target == "":
                    tokens = len(encode(tokenizer, in_turn(tokenizer, text, request.chat_template))[0])
                else:
                    own, continuation = prompt_and_target_ids(tokenizer, text, target, join=request.join, frame=frame)
                    tokens = len(own) + len(continuation) - 1
                if tokens > limit:
                    raise RequestError(f"record {_name(request, position)}: {too_long(what, text, tokens, limit)}")


def surely_fits(request: Request, limit: int | None) -> bool:
    """Whether a request fits in any context template that is sampled, told without a tokenizer."""
    if limit is None:
        return True
    return request.chat_template is None and _fits(limit - _SAMPLED, request.text, request.target_new)


def _fits(limit: int, *texts: str) -> bool:
    """Whether texts cannot have more tokens than that, told without a tokenizer."""
    return sum(len(text.encode("utf-8", "replace")) for text in texts) + _SPECIAL <= limit


def _name(request: Request, position: int) -> str:
    return f"at position {position}" if request.case_id is None else short(request.case_id)
