"""Edit requests and the records that say how an edit is scored."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from seqedit.errors import InputError, RequestError
from seqedit.facts.checks import check_text, short
from seqedit.facts.identity import canonical
from seqedit.joining.rule import AUTO, SPACE, check_join, makes_a_difference
from seqedit.support.suggestions import did_you_mean

ORIGIN = ("date", "source", "note")
"""Fields of a request that say where its fact comes from: kept and shown, and of no weight for the edit."""
FRAMING = ("join", "chat_template")
"""Fields that say how prompts are put to the model: their answers' joint, and the chat template around them."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Request:
    """One edit: after it the model should continue ``prompt`` (filled in) with ``target_new``.

    Attributes:
        subject: What the fact is about; must not be empty.
        prompt: Template with exactly one ``{}`` where the subject goes.
        target_new: The new answer, without leading space.
        target_true: The answer before the edit, where known (CounterFact's ``target_true``).
        relation: Identifier of the relation, e.g. ``P103``; the fact's identity is (subject, relation).
        case_id: Identifier of the record in its data set: a string, or an integer of at most 64 bits.
        date: Since when the fact holds or is known, as its source writes it.
        source: Where it is from.
        note: Anything else that whoever asks for the fact later should be told.
        join: How its prompts and targets join: ``auto``, ``space`` or ``none`` (`seqedit.joining.rule`).
        chat_template: Its prompts are the user's turn of this chat template of the model's, named by its SHA-256
            (`seqedit.text.chat`); None for bare prompts.

    Raises:
        RequestError: a field is of another type, empty or too long; it is named.
    """

    subject: str
    prompt: str
    target_new: str
    target_true: str | None = None
    relation: str | None = None
    case_id: str | int | None = None
    date: str | None = None
    source: str | None = None
    note: str | None = None
    join: str = AUTO
    chat_template: str | None = None

    def __post_init__(self) -> None:
        where = "request" if self.case_id is None else f"request {short(self.case_id)}"
        for name in ("subject", "prompt", "target_new", "target_true", "relation", *ORIGIN):
            value = getattr(self, name)
            if value is None and name in ("target_true", "relation", *ORIGIN):
                continue
            try:
                check_text(value, name)
            except RequestError as error:
                raise RequestError(f"{where}: {error}") from None
            if not value.strip() and name != "relation":
                raise RequestError(f"{where}: field '{name}' is empty")
        _check_case_id(self.case_id)
        _check_framing(self, where)
        slots = self.prompt.count("{}")
        if slots != 1:
            raise RequestError(
                f"{where}: field 'prompt' must hold exactly one {{}} for the subject, found {slots}: "
                f"{short(self.prompt)}"
            )
        object.__setattr__(self, "target_new", self.target_new.strip())
        if self.target_true is not None:
            object.__setattr__(self, "target_true", self.target_true.strip())

    @property
    def text(self) -> str:
        """The prompt with the subject filled in."""
        # str.format would choke on braces in prompts and subjects; there is exactly one slot.
        return self.prompt.replace("{}", self.subject)

    @property
    def fact(self) -> tuple[str, str]:
        """Identity of the fact: (subject, relation), or (subject, prompt) where no relation is given.

        Both in their canonical spelling (`seqedit.facts.identity`): one fact is one, however it is written.
        """
        return canonical(self.subject), canonical(self.named_relation)

    @property
    def named_relation(self) -> str:
        """The relation, or the prompt where none is given, as written."""
        return self.relation if self.relation is not None else self.prompt

    def to_dict(self) -> dict[str, Any]:
        """All fields that are set, as JSON types; the joint only where it is not what its absence says."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if self.join == self._unsaid_join:
            del data["join"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Request:
        """The inverse of `to_dict`; an unknown or missing field is an error that names it."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            hint = did_you_mean(str(unknown[0]), known)
            raise RequestError(f"request: unknown field {short(unknown[0])}; known: {', '.join(sorted(known))}{hint}")
        for name in ("subject", "prompt", "target_new"):
            if name not in data:
                raise RequestError(f"request: field '{name}' is missing")
        request = cls(**data)
        return request if "join" in data else replace(request, join=request._unsaid_join)

    @property
    def _unsaid_join(self) -> str:
        """The joint of a stored request that names none.

        Where ``auto`` makes what ``space`` makes there is nothing to name. Requests for which it does not are of
        versions that always put a space.
        """
        targets = [self.target_new, *([] if self.target_true is None else [self.target_true])]
        same = self.chat_template or not any(makes_a_difference(self.text, target) for target in targets)
        return AUTO if same else SPACE

    @property
    def framed(self) -> bool:
        """Whether the stored request says more than older versions know of requests."""
        return self.chat_template is not None or self.join != self._unsaid_join

    def digest(self) -> str:
        """SHA-256 (hex) of the request's canonical JSON."""
        return _digest(self.to_dict())

    def asks(self) -> str:
        """SHA-256 (hex) of what is asked, however it is put to the model: the digest without the `FRAMING`."""
        return _digest({name: value for name, value in self.to_dict().items() if name not in FRAMING})


@dataclass(frozen=True)
class Neighbor:
    """A prompt whose answer an edit must leave alone.

    Attributes:
        prompt: Filled-in prompt about another subject.
        target_true: Its right answer; ``None`` means the record's ``target_true``, as in CounterFact.

    Raises:
        RequestError: one of them is not a text.
    """

    prompt: str
    target_true: str | None = None

    def __post_init__(self) -> None:
        check_text(self.prompt, "neighborhood_prompts")
        if self.target_true is not None:
            check_text(self.target_true, "neighborhood_prompts")


PROBE_KINDS = ("portability", "locality")
"""What a probe asks: what follows from the edit, or what it must leave alone."""


@dataclass(frozen=True)
class Probe:
    """A question whose answer tells of an edit beside its own prompt (Yao et al., 2023; KnowEdit, Zhang et al., 2024).

    Attributes:
        kind: One of `PROBE_KINDS`.
        name: What its file calls it, in lower case (``reasoning``, ``relation_specificity``); "" for no own name.
        prompt: The question, filled in.
        answers: Accepted answers, the first one foremost; empty where a locality question has none.

    Raises:
        RequestError: a field is no text, the prompt is blank, or a portability probe has no answer.
    """

    kind: str
    name: str
    prompt: str
    answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in PROBE_KINDS:
            raise RequestError(f"a probe's kind is {' or '.join(PROBE_KINDS)}, got {short(self.kind)}")
        check_text(self.name, self.kind)
        for text in (self.prompt, *self.answers):
            if not check_text(text, self.kind).strip():
                raise RequestError(f"field '{self.kind}': an empty prompt or answer")
        if self.kind == "portability" and not self.answers:
            raise RequestError(f"field 'portability': {short(self.prompt)} has no answer")


@dataclass(frozen=True)
class Record:
    """A request with the prompts that score it (CounterFact or zsRE layout, read by `seqedit.facts.loading`).

    Attributes:
        request: The edit itself.
        paraphrase_prompts: Other phrasings of the request, filled in.
        neighborhood_prompts: Prompts whose answer must not change.
        generation_prompts: Prompts to continue freely, for the generation entropy.
        reference_texts: Texts about subjects that truly have ``target_new``, for the reference score.
        probes: Portability and locality questions.

    Raises:
        RequestError: a prompt or text is not one.
    """

    request: Request
    paraphrase_prompts: tuple[str, ...] = ()
    neighborhood_prompts: tuple[Neighbor, ...] = ()
    generation_prompts: tuple[str, ...] = ()
    reference_texts: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()

    def __post_init__(self) -> None:
        for name in ("paraphrase_prompts", "generation_prompts"):
            for text in getattr(self, name):
                check_text(text, name)
        for text in self.reference_texts:
            check_text(text, "reference_texts", limit=None)  # whole articles are welcome

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types; the inverse of `from_dict`."""
        return {
            "request": self.request.to_dict(),
            "paraphrase_prompts": list(self.paraphrase_prompts),
            "neighborhood_prompts": [
                {"prompt": n.prompt, **({} if n.target_true is None else {"target_true": n.target_true})}
                for n in self.neighborhood_prompts
            ],
            "generation_prompts": list(self.generation_prompts),
            "reference_texts": list(self.reference_texts),
            # Only where there are any: digests of records of earlier versions stay what they were.
            **({"probes": [{**asdict(p), "answers": list(p.answers)} for p in self.probes]} if self.probes else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """The inverse of `to_dict`."""
        return cls(
            request=Request.from_dict(data["request"]),
            paraphrase_prompts=tuple(data.get("paraphrase_prompts", ())),
            neighborhood_prompts=tuple(Neighbor(**n) for n in data.get("neighborhood_prompts", ())),
            generation_prompts=tuple(data.get("generation_prompts", ())),
            reference_texts=tuple(data.get("reference_texts", ())),
            probes=tuple(Probe(**{**p, "answers": tuple(p["answers"])}) for p in data.get("probes", ())),
        )


def by_request(records: Iterable[Record]) -> dict[str, Record]:
    """Records by what their requests ask for, as `record_of` finds them."""
    return {record.request.asks(): record for record in records}


def record_of(known: Mapping[str, Record], request: Request) -> Record:
    """The record of a request that was edited: its prompts are put to the model as the request was.

    Args:
        known: Of `by_request`.
        request: The request; where no record asks for the same, it is a record by itself.
    """
    found = known.get(request.asks())
    return Record(request) if found is None else replace(found, request=request)


def check_batch(requests: Sequence[Request], numbers: Sequence[int] | None = None) -> None:
    """Refuse an empty batch, the same request twice, and two targets for one fact.

    Args:
        requests: The batch.
        numbers: Their numbers in the file that they come from, for messages.

    Raises:
        RequestError: names the subject and the two requests.
    """
    if not requests:
        raise RequestError("the batch holds no requests")
    seen: dict[tuple[str, str], int] = {}
    for position, request in enumerate(requests):
        # One fact may be written in two ways: with its relation, or as the same text.
        for key in (request.fact, ("", canonical(request.text))):
            earlier = seen.setdefault(key, position)
            if earlier == position:
                continue
            first = requests[earlier]
            two = f"{earlier} and {position} in one batch"
            if numbers is not None:
                two += f" (records {numbers[earlier]} and {numbers[position]} of the file)"
            if canonical(first.target_new) == canonical(request.target_new):
                raise RequestError(
                    f"duplicate requests {two}: subject {short(request.subject)}, "
                    f"target {short(request.target_new)}; keep one of them"
                )
            raise RequestError(
                f"contradictory requests {two}: subject {short(request.subject)} is to "
                f"be both {short(first.target_new)} and {short(request.target_new)}; "
                "put them into two batches or drop one"
            )


def requests_of(records: Iterable[Record]) -> list[Request]:
    """The requests of some records, in their order."""
    return [record.request for record in records]


def _digest(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_framing(request: Request, where: str) -> None:
    """Joint and chat template of a request, which may be anybody's JSON."""
    try:
        check_join(request.join, f"{where}: field 'join'")
    except InputError as error:
        raise RequestError(str(error)) from None
    chat = request.chat_template
    if chat is not None and not (isinstance(chat, str) and _SHA256.fullmatch(chat)):
        raise RequestError(f"{where}: field 'chat_template' must be 64 hexadecimal digits, got {short(chat)}")


def _check_case_id(value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str):
        check_text(value, "case_id")
    elif not isinstance(value, int) or isinstance(value, bool):
        raise RequestError(f"request: field 'case_id' must be a string or an integer, got {type(value).__name__}")
    elif not -(2**63) <= value < 2**63:
        raise RequestError("request: field 'case_id' is an integer of more than 64 bits")
