"""Chat templates: a prompt as the user's turn, after which the assistant's begins.

What stands before and after the user's words is read off the template once; it does not depend on the words. Time
stands still in it: a template that writes the date (Llama 3.2) gets the one that such templates fall back to, so that
an edit and its scores do not depend on the day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from seqedit.errors import InputError
from seqedit.forward.protocols import Tokenizer
from seqedit.joining.rule import AUTO, SPACE

_WORDS, _ANSWER = "\ue000", "\ue001"
"""Stand for the user's and the assistant's words: private characters, of which no template knows anything."""
_DATE = datetime(2024, 7, 26)


class Rendered(str):
    """A text made by a chat template: its special tokens are in it, and the tokenizer adds none."""

    __slots__ = ()


@dataclass(frozen=True)
class Frame:
    """What a chat template puts around the user's words.

    Attributes:
        before: What stands before them.
        after: What stands after them, to where the assistant's answer begins.
        glue: White space that the template itself puts between that and the answer.
        trims: Whether white space around the user's words is dropped.
    """

    before: str
    after: str
    glue: str = ""
    trims: bool = False

    def around(self, prompt: str) -> Rendered:
        """The whole text that ends where the answer begins."""
        return Rendered(self.before + (prompt.strip() if self.trims else prompt) + self.after)

    def start(self, prompt: str) -> int:
        """Where the prompt's first character would stand in it."""
        return len(self.before) - (len(prompt) - len(prompt.lstrip()) if self.trims else 0)

    def answer(self, target: str, join: str) -> str:
        """An answer as it follows the prompt: joined as the template does it, unless a joint is named."""
        return (self.glue if join == AUTO else " " if join == SPACE else "") + target.strip()


def template_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 (hex) of a tokenizer's chat template.

    Raises:
        InputError: it has none, or several without one for a plain conversation.
    """
    return hashlib.sha256(_template(tokenizer).encode("utf-8", "backslashreplace")).hexdigest()


def frame_of(tokenizer: Tokenizer, digest: str | None) -> Frame | None:
    """What the chat template of a request puts around its prompts; None for bare prompts.

    Args:
        tokenizer: The model's tokenizer.
        digest: SHA-256 of the template, as requests name it.

    Raises:
        InputError: the tokenizer has another template, or one that cannot be used.
    """
    if digest is None:
        return None
    found = template_digest(tokenizer)
    if found != digest:
        raise InputError(
            f"the fact was put into another chat template ({digest[:12]}) than the tokenizer's ({found[:12]}); use the "
            "tokenizer that it was edited with"
        )
    return chat_frame(tokenizer)


def chat_frame(tokenizer: Tokenizer) -> Frame:
    """What a tokenizer's chat template puts around the user's words; errors as for `frame_of`."""
    _template(tokenizer)
    loose = _rendered(tokenizer, [{"role": "user", "content": f" {_WORDS} "}])
    trims = f" {_WORDS} " not in loose
    text = _rendered(tokenizer, [{"role": "user", "content": _WORDS}])
    if text.count(_WORDS) != 1:
        raise InputError(
            f"the chat template writes the user's words {text.count(_WORDS)} times; prompts cannot be put into it"
        )
    before, _, after = text.partition(_WORDS)
    return Frame(before, after, _glue(tokenizer, text), trims)


def in_turn(tokenizer: Tokenizer, prompt: str, digest: str | None) -> str:
    """A prompt as it is put to the model: in its chat template, or bare without spaces at its end."""
    frame = frame_of(tokenizer, digest)
    return prompt.rstrip(" ") if frame is None else frame.around(prompt)


def put_to_model(tokenizer: Tokenizer, prompts: Iterable[tuple[str, str | None]]) -> list[str]:
    """Prompts to be continued, each in the chat template that its fact names; those that name none as they are."""
    found: list[str] = []
    frames: dict[str | None, Frame | None] = {None: None}
    for prompt, digest in prompts:
        if digest not in frames:
            frames[digest] = frame_of(tokenizer, digest)
        frame = frames[digest]
        found.append(prompt if frame is None else frame.around(prompt))
    return found


def _glue(tokenizer: Tokenizer, text: str) -> str:
    """White space between the beginning of the assistant's turn and its answer, in a conversation that has both."""
    turns = [{"role": "user", "content": _WORDS}, {"role": "assistant", "content": _ANSWER}]
    whole = _rendered(tokenizer, turns, begin=False)
    between = whole.removeprefix(text).partition(_ANSWER)[0] if whole.startswith(text) else ""
    return between if not between.strip() else ""


def _template(tokenizer: Tokenizer) -> str:
    get: Any = getattr(tokenizer, "get_chat_template", None)
    template: Any = None
    if get is not None and getattr(tokenizer, "chat_template", None):
        try:
            template = get()
        except ValueError as error:  # several, and none is the default
            raise InputError(f"the tokenizer's chat template cannot be chosen: {_first_line(error)}") from error
    if not isinstance(template, str) or not template:
        raise InputError(
            "the model's tokenizer has no chat template: --chat-template is for instruction-tuned models, whose "
            "tokenizer brings one (chat_template.jinja, or chat_template in tokenizer_config.json)"
        )
    return template


def _rendered(tokenizer: Tokenizer, turns: list[dict[str, str]], *, begin: bool = True) -> str:
    apply: Any = tokenizer.apply_chat_template  # type: ignore[attr-defined]
    try:
        text = apply(turns, tokenize=False, add_generation_prompt=begin, strftime_now=_DATE.strftime)
    except Exception as error:  # whatever a template does: it is a program
        raise InputError(f"the chat template cannot be used for a single turn: {_first_line(error)}") from error
    return str(text)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
