"""Prompts to be traced: their tokens, where the subject is among them, and which class each token belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from seqedit.errors import RequestError
from seqedit.facts.requests import Request
from seqedit.forward.protocols import Tokenizer
from seqedit.text.chat import frame_of
from seqedit.text.lookup import subject_at
from seqedit.text.tokenization import encode, ids_apart, pair_texts, prompt_and_target_ids, subject_span

TOKEN_CLASSES = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first subsequent token",
    "further tokens",
    "last token",
)
"""Classes of token over which effects are averaged, in the order of ROME's figure 2."""
LAST_SUBJECT, LAST = TOKEN_CLASSES[2], TOKEN_CLASSES[5]


@dataclass(frozen=True)
class TracePrompt:
    """A tokenized prompt.

    Attributes:
        ids: Its t token ids.
        begin, end: The subject's tokens are begin to end - 1; the last of them is the lookup token.
        answer: First token of the true answer, None where the request names none.
    """

    ids: tuple[int, ...]
    begin: int
    end: int
    answer: int | None = None

    def classes(self) -> dict[str, list[int]]:
        """Class -> positions. Tokens before the subject, which its corruption cannot reach, are in none.

        Every other token is in one class, with one exception: where the prompt ends with its subject, the last token is
        in none. As last token of the prompt it reaches the answer without any attention, which would drown the effect
        that the last subject token is looked at for. A subject of one token has a last token only.
        """
        found: dict[str, list[int]] = {name: [] for name in TOKEN_CLASSES}
        for position in range(self.begin, len(self.ids)):
            name = self._class_of(position)
            if name is not None:
                found[name].append(position)
        return {name: positions for name, positions in found.items() if positions}

    def _class_of(self, position: int) -> str | None:
        if position == len(self.ids) - 1:
            return LAST if position >= self.end else None
        if position == self.end - 1:
            return LAST_SUBJECT
        if position < self.end:
            return TOKEN_CLASSES[0 if position == self.begin else 1]
        return TOKEN_CLASSES[3 if position == self.end else 4]


def tokenize_for_trace(tokenizer: Tokenizer, request: Request) -> TracePrompt:
    """The prompt of a request, filled in and without context template.

    Raises:
        RequestError: no token of the prompt belongs to the subject, or the true answer has no tokens.
    """
    frame, start = frame_of(tokenizer, request.chat_template), request.prompt.index("{}")
    text = request.text.rstrip(" ") if frame is None else frame.around(request.text)
    ids, offsets = encode(tokenizer, text)
    left, right = subject_span(text, *subject_at(request, start, frame))
    hits = [i for i, (start, stop) in enumerate(offsets) if start < right and stop > left and stop > start]
    if not hits:
        raise RequestError(f"subject {request.subject!r} has no token in the prompt {text!r}")
    answer = None
    if request.target_true is not None:
        own, target = prompt_and_target_ids(
            tokenizer, request.text, request.target_true, join=request.join, frame=frame
        )
        # Effects are looked for at the prompt's own tokens, so they must stay what they are.
        if own != ids:
            head, whole = pair_texts(request.text, request.target_true, request.join, frame)
            target = ids_apart(tokenizer, whole[len(head) :])
        answer = target[0]
    return TracePrompt(tuple(ids), hits[0], hits[-1] + 1, answer)
