"""Prompts, targets and subjects as token ids, without ever re-tokenizing pieces.

Two rules keep every tokenizer family right. A target is what the tokenizer appends to the prompt when it
sees the whole text, so it gets the leading space it needs and never a BOS. A subject's last token is found
from the offsets of the whole prompt, never by tokenizing the prompt's prefix.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from seqedit.errors import ModelError, RequestError
from seqedit.forward.protocols import Tokenizer


def encode(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids and character offsets of a text, with the tokenizer's own leading special tokens.

    Special tokens that the tokenizer puts *after* the text (EOS, SEP) are dropped: a prompt is to be continued.

    Returns:
        ids and offsets, both of length t; special tokens have the empty offset (0, 0).

    Raises:
        ModelError: if the tokenizer gives no offsets (only fast tokenizers do).
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"tokenizer {type(tokenizer).__name__} gives no character offsets; load the model's fast tokenizer"
        )
    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    length = _without_end(encoded["special_tokens_mask"])
    return list(encoded["input_ids"][:length]), [tuple(pair) for pair in encoded["offset_mapping"][:length]]


def encode_many(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, list[int]]:
    """Text -> token ids, as `encode` gives them, in one call: several times as fast for thousands."""
    if not texts:
        return {}
    wanted = {"return_special_tokens_mask": True, "return_attention_mask": False, "return_token_type_ids": False}
    encoded = tokenizer(list(texts), **wanted)
    columns = zip(texts, encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    return {text: list(ids[: _without_end(special)]) for text, ids, special in columns}


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without garbage collection: thousands of small lists that all stay would be searched through again and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _without_end(special: Sequence[int]) -> int:
    """Length without the special tokens at the end; an empty text keeps its BOS."""
    length = len(special)
    while length and special[length - 1]:
        if all(special[:length]):
            break
        length -= 1
    return length


def whole_text(prompt: str, target: str) -> str:
    """A prompt, already without spaces at its end, and the target after one space."""
    return f"{prompt} {target.strip()}"


def prompt_and_target_ids(
    tokenizer: Tokenizer, prompt: str, target: str, known: Mapping[str, Sequence[int]] | None = None
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of the target that continues it after one space.

    Args:
        tokenizer: The fast tokenizer.
        prompt: The prompt; spaces at its end do not count.
        target: The target; spaces around it do not count.
        known: Ids of some texts (`encode_many`), of which prompt and `whole_text` need not be tokenized again.

    Returns:
        ids of the prompt (leading special tokens included) and ids of the target (never a special token).

    Raises:
        RequestError: if the target has no tokens.
    """
    prompt = prompt.rstrip(" ")
    known = known or {}
    prompt_ids = list(known[prompt]) if prompt in known else encode(tokenizer, prompt)[0]
    target_ids = _continuation(tokenizer, prompt, prompt_ids, target, known)
    if target_ids is None:
        # The prompt's last token merges with what follows; a neutral word in front does not.
        anchor_ids, _ = encode(tokenizer, "a")
        target_ids = _continuation(tokenizer, "a", anchor_ids, target, {})
    if target_ids is None:
        target_ids = list(tokenizer(" " + target.strip(), add_special_tokens=False)["input_ids"])
    if not target_ids:
        raise RequestError(f"target {target!r} has no tokens after the prompt {prompt!r}")
    return prompt_ids, target_ids


def _continuation(
    tokenizer: Tokenizer, prompt: str, prompt_ids: list[int], target: str, known: Mapping[str, Sequence[int]]
) -> list[int] | None:
    """Ids that follow ``prompt_ids`` in the tokenized whole, or None if the prompt's own ids change."""
    text = whole_text(prompt, target)
    whole = list(known[text]) if text in known else encode(tokenizer, text)[0]
    if whole[: len(prompt_ids)] != prompt_ids:
        return None
    return whole[len(prompt_ids) :]


def subject_span(text: str, subject: str, start: int | None = None) -> tuple[int, int]:
    """Character span of the subject in a text.

    Args:
        text: The filled-in prompt.
        subject: The subject.
        start: Where the subject begins, if known (it is, when the prompt was filled from a template);
            otherwise its last occurrence counts.

    Raises:
        RequestError: if the subject is not there.
    """
    found = text.rfind(subject) if start is None else (start if text.startswith(subject, start) else -1)
    if found < 0 or not subject:
        raise RequestError(f"subject {subject!r} does not occur in the prompt {text!r}")
    return found, found + len(subject)


def last_token_of_span(offsets: list[tuple[int, int]], span: tuple[int, int]) -> int:
    """Index of the last token that overlaps a character span (the lookup token of a subject).

    Raises:
        RequestError: if no token overlaps the span.
    """
    begin, end = span
    hits = [i for i, (left, right) in enumerate(offsets) if left < end and right > begin and right > left]
    if not hits:
        raise RequestError(f"no token covers the characters {begin} to {end} of the prompt")
    return hits[-1]
