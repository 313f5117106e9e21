"""Which tokenizer this is: a digest of what makes its tokens, for numbers that are kept."""

from __future__ import annotations

import json
from typing import Any

from seqedit.forward.protocols import Tokenizer
from seqedit.support.digests import json_digest


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 (hex) of all that decides which ids a text has: not the vocabulary alone, also how it is applied.

    Merges, normalisation, the splitting of words and what is put before a text (BOS) count. Padding and truncation do
    not: calls set them. A tokenizer that does not show these goes by its vocabulary and its special tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        parts: Any = sorted(tokenizer.get_vocab().items())
    else:
        parts = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("padding", "truncation")}
    return json_digest({"tokens": parts, "special": sorted(tokenizer.all_special_ids), "end": tokenizer.eos_token_id})
