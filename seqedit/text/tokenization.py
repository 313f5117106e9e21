"""Prompts, targets and subjects as token ids, without ever re-tokenizing pieces.

Three rules keep every tokenizer family right. A target is what the tokenizer appends to the prompt when it
sees the whole text, joined by `seqedit.joining.rule`, so it gets the leading space it needs and never a BOS. A
subject's last token is found from the offsets of the whole prompt, never by tokenizing the prompt's prefix. And a text
that begins with the special tokens that the tokenizer puts first does not get them twice.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from seqedit.errors import ModelError, RequestError
from seqedit.forward.protocols import Tokenizer
from seqedit.joining.rule import AUTO, joint
from seqedit.text.chat import Frame, Rendered


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
    encoded = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, add_special_tokens=_adds(text)
    )
    ids = encoded["input_ids"]
    start, stop = _own(ids, encoded["special_tokens_mask"])
    return list(ids[start:stop]), [tuple(pair) for pair in encoded["offset_mapping"][start:stop]]


def encode_many(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, list[int]]:
    """Text -> token ids, as `encode` gives them, in one call: several times as fast for thousands."""
    if not texts:
        return {}
    wanted = {"return_special_tokens_mask": True, "return_attention_mask": False, "return_token_type_ids": False}
    found: dict[str, list[int]] = {}
    for adds in (True, False):
        some = [text for text in texts if _adds(text) == adds]
        if not some:
            continue
        encoded = tokenizer(some, add_special_tokens=adds, **wanted)
        for text, ids, special in zip(some, encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
            found[text] = list(ids[slice(*_own(ids, special))])
    return found


def _adds(text: str) -> bool:
    """Whether the tokenizer is to add its special tokens; a chat template has written them."""
    return not isinstance(text, Rendered)


def _own(ids: Sequence[int], special: Sequence[int]) -> tuple[int, int]:
    """Where a prompt begins and ends among its ids: a beginning that the text brought itself is not there twice."""
    return second_beginning(ids, special), _without_end(special)


def second_beginning(ids: Sequence[int], special: Sequence[int]) -> int:
    """How many special tokens the tokenizer put before a text that begins with the same ones itself."""
    added = 0
    while added < len(special) and special[added]:
        added += 1
    return added if list(ids[added : 2 * added]) == list(ids[:added]) else 0


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


def whole_text(prompt: str, target: str, join: str = AUTO) -> str:
    """A prompt and the target that continues it, as one text."""
    return "".join(joint(prompt, target, join))


def pair_texts(prompt: str, target: str, join: str = AUTO, frame: Frame | None = None) -> tuple[str, str]:
    """The text before a target, and the whole text with it, as they are tokenized.

    Args:
        prompt: The prompt.
        target: The target.
        join: How they join (`seqedit.joining.rule`).
        frame: The chat template whose user's turn the prompt is.
    """
    if frame is None:
        head, tail = joint(prompt, target, join)
        return head, head + tail
    before = frame.around(prompt)
    return before, Rendered(before + frame.answer(target, join))


def prompt_and_target_ids(
    tokenizer: Tokenizer,
    prompt: str,
    target: str,
    known: Mapping[str, Sequence[int]] | None = None,
    *,
    join: str = AUTO,
    frame: Frame | None = None,
    subject: str = "",
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of the target that continues it: together those of the whole text.

    Where a token of the whole lies across the boundary (scripts without spaces), the whole's tokens count: one that
    holds the end of the prompt and the beginning of the target is the target's, and the prompt ends before it. Only if
    that would change the subject's tokens, which an edit reads before there is a target, does the prompt keep its own,
    and the target's are put after them.

    Args:
        tokenizer: The fast tokenizer.
        prompt: The prompt; spaces at its end do not count.
        target: The target; spaces around it do not count.
        known: Ids of some texts (`encode_many`), of which those of `pair_texts` need not be tokenized again.
        join: How they join.
        frame: The chat template whose user's turn the prompt is.
        subject: The subject, whose tokens are to stay those of the prompt alone; it need not be in the prompt.

    Returns:
        ids of the prompt (leading special tokens included) and ids of the target (never a special token).

    Raises:
        RequestError: if the target has no tokens.
    """
    head, whole = pair_texts(prompt, target, join, frame)
    known = known or {}
    prompt_ids = list(known[head]) if head in known else encode(tokenizer, head)[0]
    ids = list(known[whole]) if whole in known else encode(tokenizer, whole)[0]
    if ids[: len(prompt_ids)] == prompt_ids:
        target_ids = ids[len(prompt_ids) :]
    elif not whole.startswith(" ", len(head)) and (cut := _cut(tokenizer, head, whole, subject.strip())):
        prompt_ids, target_ids = ids[:cut], ids[cut:]
    else:
        target_ids = ids_apart(tokenizer, whole[len(head) :])
    if not target_ids:
        raise RequestError(f"target {target!r} has no tokens after the prompt {prompt!r}")
    return prompt_ids, target_ids


def _cut(tokenizer: Tokenizer, head: str, whole: str, subject: str) -> int:
    """The first token of a text that reaches beyond its beginning ``head``; 0 where the text cannot be cut there."""
    ids, offsets = encode(tokenizer, whole)
    cut = next((i for i, (_, end) in enumerate(offsets) if end > len(head)), 0)
    if subject and subject in head:
        own, places = encode(tokenizer, head)
        last = last_token_of_span(places, subject_span(head, subject))
        if last >= cut or ids[: last + 1] != own[: last + 1]:
            return 0
    return cut


def ids_apart(tokenizer: Tokenizer, tail: str) -> list[int]:
    """Ids of what follows a prompt, where the prompt's own tokens are to stay what they are.

    A neutral beginning does not merge with it; tokenizers that put a space before every text put it before that.
    """
    anchor = "a" if tail.startswith(" ") else "\n"
    before, whole = encode(tokenizer, anchor)[0], encode(tokenizer, anchor + tail)[0]
    if whole[: len(before)] == before:
        return whole[len(before) :]
    return list(tokenizer(tail, add_special_tokens=False)["input_ids"])


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
