"""How facts are put to a model, as it was asked for: their joint, and the chat template around their prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seqedit.facts.requests import Record, Request
from seqedit.forward.protocols import Tokenizer
from seqedit.joining.rule import AUTO, SPACE, check_join, makes_a_difference
from seqedit.text.chat import template_digest


@dataclass(frozen=True)
class Framing:
    """What was asked for; by default nothing, so that facts stay as they are.

    Attributes:
        join: The joint of all facts, or None: ``auto`` for new ones, as recorded for those that were edited.
        chat_template: Whether all prompts are the user's turn of the tokenizer's chat template. False leaves those
            that were edited so as they are.

    Raises:
        InputError: an unknown joint.
    """

    join: str | None = None
    chat_template: bool = False

    def __post_init__(self) -> None:
        if self.join is not None:
            check_join(self.join)

    @property
    def given(self) -> bool:
        """Whether anything was asked for."""
        return self.join is not None or self.chat_template

    def digest(self, tokenizer: Callable[[], Tokenizer]) -> str | None:
        """The chat template that was asked for, as requests name it; errors as for `of`."""
        return template_digest(tokenizer()) if self.chat_template else None

    def of(self, records: Iterable[Record], tokenizer: Callable[[], Tokenizer]) -> list[Record]:
        """Records that are put to the model so.

        Args:
            records: The records.
            tokenizer: Gives the model's tokenizer; called only where there is a chat template to be looked up.

        Raises:
            InputError: the tokenizer has no chat template.
        """
        chat = self.digest(tokenizer)
        return [replace(r, request=self._request(r.request, _texts(r), chat)) for r in records]

    def of_requests(self, requests: Iterable[Request], tokenizer: Callable[[], Tokenizer]) -> list[Request]:
        """The same of requests alone."""
        return [record.request for record in self.of(map(Record, requests), tokenizer)]

    def _request(self, request: Request, texts: Sequence[tuple[str, str]], chat: str | None) -> Request:
        if chat is not None:
            request = replace(request, chat_template=chat)
        if self.join is None:
            return request
        # Where a space is what the text would have anyway, asking for it changes nothing, nor what is written.
        same = self.join == SPACE and request.chat_template is None
        same = same and not any(makes_a_difference(*pair) for pair in texts)
        return replace(request, join=AUTO if same else self.join)


def as_edited(records: Iterable[Record], edited: Iterable[Request]) -> list[Record]:
    """Records whose facts were edited, put to the model as they were then; all others as they are."""
    ways = {(r.text, r.target_new): (r.join, r.chat_template) for r in edited}
    found = []
    for record in records:
        request = record.request
        join, chat = ways.get((request.text, request.target_new), (request.join, request.chat_template))
        found.append(replace(record, request=replace(request, join=join, chat_template=chat)))
    return found


def told_framing(requests: Iterable[Request]) -> dict[str, Any]:
    """What is to be told of how requests are put to the model: nothing where all is as in an English text.

    Returns:
        {"join": rules, comma-separated, "chat_template": digest}, each where there is something to tell.
    """
    some = list(requests)
    plain = all(r.chat_template is None and not _differs(r) for r in some)
    chats = sorted({r.chat_template for r in some if r.chat_template is not None})
    told = {} if plain else {"join": ", ".join(sorted({r.join for r in some}))}
    return {**told, **({"chat_template": ", ".join(chats)} if chats else {})}


def framing_line(told: Mapping[str, Any]) -> str | None:
    """The same as a line; None for nothing."""
    parts = [f"answers joined by '{told['join']}'"] if "join" in told else []
    if "chat_template" in told:
        parts.append(f"prompts in the chat template {told['chat_template'][:12]}")
    return "; ".join(parts) or None


def _differs(request: Request) -> bool:
    if request.join == AUTO:
        return any(makes_a_difference(prompt, target) for prompt, target in _texts(Record(request)))
    if request.join == SPACE:
        return request.framed or any(makes_a_difference(*pair) for pair in _texts(Record(request)))
    return True


def _texts(record: Record) -> list[tuple[str, str]]:
    """Every prompt of a record with every target that it is scored with."""
    request = record.request
    own = [request.text, *record.paraphrase_prompts, *(n.prompt for n in record.neighborhood_prompts)]
    targets = {request.target_new, request.target_true, *(n.target_true for n in record.neighborhood_prompts)}
    return [(prompt, target) for prompt in own for target in targets if target is not None]
