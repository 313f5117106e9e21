"""Texts that are tokenized together have the ids that they have alone."""

from __future__ import annotations

from typing import Any

import pytest

from seqedit.text.tokenization import encode, encode_many, prompt_and_target_ids, whole_text

TEXTS = ["", "a", "Venxa Ulmigri plays", "  two  spaces ", "naïve café 東京", "Venxa Ulmigri plays golf"]


@pytest.mark.parametrize("family", ["reference_model", "llama"])
def test_texts_together_have_the_ids_they_have_alone(family: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Any = request.getfixturevalue(family)[1]
    assert encode_many(tokenizer, TEXTS) == {text: encode(tokenizer, text)[0] for text in TEXTS}
    assert encode_many(tokenizer, []) == {}


@pytest.mark.parametrize("family", ["reference_model", "llama"])
def test_known_ids_change_no_pair(family: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Any = request.getfixturevalue(family)[1]
    for prompt, target in [("Venxa plays ", " golf "), ("The year", "1990"), ("It's 3.", "14")]:
        bare = prompt.rstrip(" ")
        known = encode_many(tokenizer, [bare, whole_text(bare, target)])
        alone = prompt_and_target_ids(tokenizer, prompt, target)
        assert prompt_and_target_ids(tokenizer, prompt, target, known) == alone
        wrong = {bare: [1], whole_text(bare, target): [1, 2]}
        assert prompt_and_target_ids(tokenizer, prompt, target, wrong) == ([1], [2])  # they are really used
