"""Plain texts as rows of token ids of one length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from seqedit.forward.protocols import Tokenizer
from seqedit.text.tokenization import second_beginning

TEXTS_PER_CALL = 64
"""Texts that the tokenizer is given at once: it spends most of a call for one short text on the call."""


def packed_rows(tokenizer: Tokenizer, texts: Iterable[str], length: int, max_tokens: int) -> Iterator[list[int]]:
    """Texts as rows of exactly ``length`` tokens, end-of-text between texts, until ``max_tokens`` are out.

    The length is the caller's, never the model's maximum: that is 131,072 for recent models, and the usual way to
    run out of memory here. The one row of a text that is shorter than ``length`` has the length of the text.
    """
    separator = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    buffer: list[int] = []
    given = 0
    filled = (text for text in texts if text.strip())
    while some := list(islice(filled, TEXTS_PER_CALL)):
        encoded = tokenizer(some, truncation=False, verbose=False, return_special_tokens_mask=True)
        for ids, special in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
            buffer += ids[second_beginning(ids, special) :]
            if separator and ids[-1:] != separator:
                buffer += separator
        # Cut once for all the rows that are full: cutting after each copies a long text over and over.
        whole = len(buffer) // length * length
        for start in range(0, whole, length):
            yield buffer[start : start + length]
            given += length
            if given >= max_tokens:
                return
        buffer = buffer[whole:]
    if buffer and given == 0:
        yield buffer
