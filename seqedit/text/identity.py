"""What a tokenizer does, as a digest: what was measured with one holds for that one alone."""

from __future__ import annotations

from seqedit.forward.protocols import Tokenizer
from seqedit.support.digests import json_digest

_PROBES = (
    "The capital of France is Paris.",
    " leading, doubled  and trailing spaces ",
    "line\nbreaks\n\nand\ttabs",
    "camelCase, SHOUTING 1234567.89",
    "don't we'll e\u0301tude \u00e9tude na\u00efve \ufb01",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u043c\u0438\u0440 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\U0001f642\U0001f1eb\U0001f1f7 \u200d \u00a0 \u3000",
    '{"json": [null, 1e-5]} <b>x</b> /* c */',
    "aaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbb",
)
"""Texts that normalisers, pre-tokenizers and merges differ on: case, accents, spaces, digits, scripts, emoji."""


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 (hex) of a tokenizer's vocabulary and of what it makes of some texts.

    By behaviour, not by its files: the same tokenizer saved by another version of its library is the same.
    """
    # Words of its own too: to a small vocabulary other texts are all unknown.
    words = " ".join(sorted(tokenizer.get_vocab())[:100])
    probes = (*_PROBES, words, words.upper(), words.lower(), words.title(), words.replace(" ", ""))
    ids = [list(tokenizer(text, add_special_tokens=adds)["input_ids"]) for text in probes for adds in (True, False)]
    return json_digest({"vocabulary": tokenizer.get_vocab(), "probes": ids, "end": tokenizer.eos_token_id})
