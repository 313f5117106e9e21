"""Questions answered by free generation: no teacher forcing, no cut to the length of the answer that is wanted.

Settings of Yang et al., "The Mirage of Model Editing" (2025, arXiv 2502.11177): greedy decoding, at most 50 new
tokens, a natural stop, and exact match after the usual normalisation of question answering (lower case, no punctuation,
no articles). One difference: there every full stop ends an answer, so that "Washington, D.C." can never be given;
here a full stop does if a space or the end follows it and more than one letter precedes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.statistics.stratified import wilson
from seqedit.errors import InputError
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.joining.scripts import unspaced
from seqedit.text.chat import put_to_model

TEMPLATES: Mapping[str, str] = {
    "question-only": "{}",
    "qa": "Please answer the question:\n\nQ: {}\nA:",
}
"""The paper's two contexts of a question: none, and the instruction of its question-answering task."""

_SENTENCE_END = re.compile(r"(?<![^\W\d_])[.!?](?=\s)|(?<=[^\W\d_]{2})[.!?](?=\s)|[。！？｡؟۔।॥]|\n")
"""After 。 and its like no space is wanted."""
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@dataclass(frozen=True)
class Asking:
    """How questions are put to a model.

    Attributes:
        template: A name of `TEMPLATES`, or a text with one ``{}`` for the question.
        demonstrations: Text before every question that goes through the template (in-context examples).
        max_new_tokens: Most tokens of an answer that does not stop by itself.
        batch_size: Prompts per batch; no answer depends on it beyond rounding.
        chat_template: SHA-256 of the chat template whose user's turn every prompt is; None for bare prompts.

    Raises:
        InputError: the template has no ``{}`` or several.
    """

    template: str = "question-only"
    demonstrations: str = ""
    max_new_tokens: int = 50
    batch_size: int = 32
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if TEMPLATES.get(self.template, self.template).count("{}") != 1:
            raise InputError(
                f"template {self.template[:60]!r} must hold exactly one {{}}, or be one of {', '.join(TEMPLATES)}"
            )

    def prompt(self, question: str) -> str:
        """What the model reads for a question."""
        return self.demonstrations + TEMPLATES.get(self.template, self.template).replace("{}", question)


@dataclass(frozen=True)
class Proportion:
    """A share in percent with Wilson's 95 % interval; all None where nothing was counted.

    Where one of the counted things has several prompts, it counts by the share of them that is right, and the
    interval is that of as many single prompts: too wide rather than too narrow.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    count: int

    def to_dict(self) -> dict[str, Any]:
        """The share as JSON types."""
        return asdict(self)


def proportion(values: Iterable[float | bool | None]) -> Proportion:
    """The mean of values between 0 and 1, those that are None left out."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return Proportion(None, None, None, 0)
    low, high = wilson(sum(known), len(known))
    return Proportion(100 * sum(known) / len(known), 100 * low, 100 * high, len(known))


def ask(model: CausalLM, tokenizer: Tokenizer, prompts: Iterable[str], asking: Asking) -> dict[str, str]:
    """What a model answers, greedily, up to its natural stop.

    Args:
        model: A causal language model; left as it was.
        tokenizer: Its fast tokenizer.
        prompts: Whole prompts (`Asking.prompt`); equal ones are asked once.
        asking: Lengths.

    Returns:
        Prompt -> answer.
    """
    distinct = list(dict.fromkeys(prompts))
    from evals.likelihood.decoding import generate

    texts = generate(
        model,
        tokenizer,
        put_to_model(tokenizer, [(prompt, asking.chat_template) for prompt in distinct]),
        max_new_tokens=asking.max_new_tokens,
        top_k=1,
        batch_size=asking.batch_size,
        finished=lambda text: _SENTENCE_END.search(text) is not None,
    )
    return {prompt: answer_of(text) for prompt, text in zip(distinct, texts, strict=True)}


def answer_of(text: str) -> str:
    """A generated text up to its first line break or the end of its first sentence."""
    found = _SENTENCE_END.search(text)
    return (text[: found.start()] if found else text.rstrip().rstrip(".!?。！？｡؟۔।॥")).strip()


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and double spaces."""
    kept = "".join(c for c in text.lower() if not unicodedata.category(c).startswith(("P", "S")))
    return " ".join(_ARTICLES.sub(" ", kept).split())


def exact(answer: str, names: Sequence[str]) -> bool:
    """Whether an answer is one of the names, after normalisation."""
    # A name that normalisation leaves nothing of ("A", "+") is compared as it is.
    return any(
        normalized(answer) == normalized(name) if normalized(name) else answer.strip() == name.strip() for name in names
    )


def contained(answer: str, names: Sequence[str]) -> bool:
    """Whether an answer holds one of the names as whole words, after normalisation.

    Where a script writes no spaces between words, a name in it may stand anywhere.
    """
    inside = f" {normalized(answer)} "
    return any(
        _bounded(normalized(name)) in inside if normalized(name) else answer.strip() == name.strip() for name in names
    )


def _bounded(name: str) -> str:
    """A normalised name with a space on every side that a word of its script ends with."""
    return f"{'' if unspaced(name[0]) else ' '}{name}{'' if unspaced(name[-1]) else ' '}"


MATCHES = {"exact": exact, "contained": contained}
"""When an answer counts as right."""
