"""Requests in their contexts as token ids, with the lookup token of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqedit.errors import RequestError
from seqedit.facts.requests import Request
from seqedit.forward.protocols import Tokenizer
from seqedit.text.chat import Frame, frame_of
from seqedit.text.tokenization import (
    encode,
    ids_apart,
    last_token_of_span,
    pair_texts,
    prompt_and_target_ids,
    subject_span,
)

BARE = "{}"


@dataclass(frozen=True)
class Prompt:
    """One tokenized prompt.

    Attributes:
        ids: Token ids of the prompt, and of the target without its last token where one was asked for.
        lookup: Index of the lookup token (last token of the subject).
        target_ids: Ids of the target, empty where none was asked for.
        target_start: Index of the position that predicts the first target token.
    """

    ids: tuple[int, ...]
    lookup: int
    target_ids: tuple[int, ...] = ()
    target_start: int = 0


def tokenize_request(
    tokenizer: Tokenizer, request: Request, context: str = BARE, *, with_target: bool = False
) -> Prompt:
    """Tokenize a request inside a context template.

    Args:
        tokenizer: A fast tokenizer.
        request: The request.
        context: Context template with one ``{}`` where the request's prompt goes.
        with_target: Append the target's ids (all but the last, which is only predicted).

    Raises:
        RequestError: if the subject is not found in the tokens or the target has none.
    """
    return _tokenize(tokenizer, request, request.prompt, context, with_target)


def tokenize_kl_prompt(tokenizer: Tokenizer, request: Request) -> Prompt:
    """Tokenize "{subject} is a", the prompt whose next-token distribution an edit should keep (ROME, eq. 4)."""
    return _tokenize(tokenizer, request, "{} is a", BARE, with_target=False)


def _tokenize(tokenizer: Tokenizer, request: Request, template: str, context: str, with_target: bool) -> Prompt:
    before, _, after = context.partition("{}")
    head, _, tail = template.partition("{}")
    prompt = f"{before}{head}{request.subject}{tail}{after}"
    start = len(before) + len(head)
    frame = frame_of(tokenizer, request.chat_template)
    if frame is None:
        # Tokenizers see a trailing space as a token of its own; the target brings its space along.
        text = prompt.rstrip(" ")
    else:  # the context stands in the user's turn too: before it, the model would never see it
        text = frame.around(prompt)
    ids, offsets = encode(tokenizer, text)
    span = subject_span(text, *subject_at(request, start, frame, prompt))
    try:
        lookup = last_token_of_span(offsets, span)
    except RequestError as error:
        raise RequestError(f"subject {request.subject!r} has no token in the prompt {text!r}") from error
    if not with_target:
        return Prompt(tuple(ids), lookup)
    prompt_ids, target_ids = prompt_and_target_ids(
        tokenizer, prompt, request.target_new, join=request.join, frame=frame, subject=request.subject
    )
    if prompt_ids[: lookup + 1] != ids[: lookup + 1]:  # the subject is in the prompt a second time
        head_text, whole = pair_texts(prompt, request.target_new, request.join, frame)
        prompt_ids, target_ids = ids, ids_apart(tokenizer, whole[len(head_text) :])
    return Prompt((*prompt_ids, *target_ids[:-1]), lookup, tuple(target_ids), len(prompt_ids) - 1)


def subject_at(request: Request, start: int, frame: Frame | None, prompt: str | None = None) -> tuple[str, int]:
    """The subject as it stands in the text that is tokenized, and where it begins there.

    Args:
        request: The request.
        start: Where the subject begins in the prompt.
        frame: The chat template around the prompt.
        prompt: The filled-in prompt, context included; None for the request's own.
    """
    subject = request.subject.rstrip(" ")
    if frame is None:
        return subject, start
    start += frame.start(request.text if prompt is None else prompt)
    gone = max(0, len(frame.before) - start)  # white space that the template drops
    return subject[gone:], start + gone


def check_context_templates(templates: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Context templates as tuples: groups of strings with exactly one ``{}`` each.

    Raises:
        RequestError: names the template that is not of this form.
    """
    if isinstance(templates, str) or not templates:
        raise RequestError("context templates must be a list of lists of strings")
    groups = []
    for group in templates:
        if isinstance(group, str) or not group:
            raise RequestError("context templates must be a list of lists of strings, none of them empty")
        for template in group:
            if not isinstance(template, str) or template.count("{}") != 1:
                raise RequestError(f"context template {template!r} must hold exactly one {{}}")
        groups.append(tuple(group))
    return tuple(groups)
