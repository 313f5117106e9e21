"""Answers as a harness sees them that is given texts only: how many tokens they have, and where they can be cut.

lm-eval asks for the summed log-likelihood of a text after a text, and whether it is the argmax throughout. A mean per
token needs the number of tokens, an accuracy per token needs one question per token. Both follow from the tokenizer,
by the rule lm-eval itself tokenizes with: what the whole has beyond the context.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.forward.protocols import Tokenizer

Pair = tuple[str, str]
"""Context and continuation."""

_TOKENIZER_OPTIONS = ("revision", "trust_remote_code", "subfolder", "add_bos_token")


def named_tokenizer(options: Mapping[str, Any]) -> Any:
    """The tokenizer of lm-eval's model arguments, which lm-eval hands to every task as metadata.

    Args:
        options: ``tokenizer``, else ``pretrained``: Hub id or directory; and lm-eval's options of it.

    Raises:
        InputError: none is named.
        EnvironmentFailure: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    name = options.get("tokenizer") or options.get("pretrained")
    if not isinstance(name, str):
        if name is not None and hasattr(name, "encode"):
            return name
        raise InputError(
            "this task needs the model's tokenizer, to count an answer's tokens; name it with "
            '--metadata \'{"tokenizer": "HUB_ID_OR_DIRECTORY"}\''
        )
    chosen = {key: options[key] for key in _TOKENIZER_OPTIONS if options.get(key) is not None}
    try:
        return AutoTokenizer.from_pretrained(name, **chosen)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EnvironmentFailure(f"the tokenizer of '{name}' could not be loaded: {reason}") from error


def count_tokens(tokenizer: Tokenizer, pair: Pair) -> int:
    """How many tokens lm-eval scores of a continuation.

    Raises:
        InputError: none; names the texts.
    """
    context, continuation = pair
    count = len(tokenizer.encode(context + continuation)) - len(tokenizer.encode(context))
    if count < 1:
        raise InputError(f"answer {continuation!r} adds no tokens to the prompt {context!r}")
    return count


def cut(tokenizer: Tokenizer, pair: Pair) -> tuple[Pair, ...] | None:
    """One pair per token of the continuation: everything before the token, and the token.

    Returns:
        The pairs in order; None where the texts would not be tokenized into just these tokens again (a token that is
        part of a character, an answer whose beginning alone has other tokens), so that no text asks for the token.
    """
    context, continuation = pair
    whole = context + continuation
    encoded = tokenizer(whole, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    before = list(tokenizer.encode(context))
    if ids[: len(before)] != before:
        return None
    cuts = [len(context), *(end for _, end in offsets[len(before) :])]
    if cuts[-1] != len(whole) or any(left >= right for left, right in itertools.pairwise(cuts)):
        return None
    for number, place in enumerate(cuts):
        text = whole[:place]
        # lm-eval moves white space at the end of a context into the continuation.
        if text != text.rstrip() or list(tokenizer.encode(text)) != ids[: len(before) + number]:
            return None
    return tuple((whole[:left], whole[left:right]) for left, right in itertools.pairwise(cuts))
