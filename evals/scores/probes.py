"""Portability and locality: does what follows from an edit follow, and does what it must leave alone stay.

Both are columns of their own, in percent, averaged within a record and then over the records; ``portability/reasoning``
and its like are those of one kind of question.

``portability``: share of an accepted answer's tokens that are the argmax under teacher forcing, of the accepted answer
that fares best: EasyEdit's token accuracy (``compute_portability_quality``, Yao et al., 2023), which knows the first
answer only. ``portability_exact``: all tokens of some accepted answer are.

``locality``: share of the positions of the first answer, under teacher forcing, whose argmax is what the unedited
model's is: KnowEdit's (Zhang et al., 2024), right or wrong. A question without an answer is asked for its next token.
``locality_kept``: of the questions that the unedited model answers rightly in full (known before, as in RippleEdits,
Cohen et al., 2023), the share that the edited one does too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # reports, histories and completion know the columns without torch
    from evals.likelihood.teacher_forcing import Continuation
    from seqedit.facts.requests import Probe

MAIN_COLUMNS = ("portability", "portability_exact", "locality", "locality_kept")
"""The columns over all kinds of questions."""

_Pair = tuple[tuple[int, ...], tuple[int, ...]]
_NEXT = "the"
"""Stands where a question has no answer: only its first token's position is looked at, before it is read."""


@dataclass(frozen=True)
class TokenizedProbe:
    """A question with each accepted answer as token ids; without an answer, with a stand-in of one token."""

    kind: str
    name: str
    prompt: str
    pairs: tuple[_Pair, ...]
    answered: bool

    def score(self, found: Sequence[Continuation]) -> ProbeScore:
        """The question under one model, from the likelihoods of its pairs."""
        return ProbeScore(
            self.kind, self.name, self.prompt, max(c.argmax_share for c in found) if self.answered else None,
            any(c.argmax for c in found) if self.answered else None, found[0].predicted,
        )  # fmt: skip


@dataclass(frozen=True)
class ProbeScore:
    """One question under one model.

    Attributes:
        kind, name, prompt: As of the `Probe`.
        argmax_share: Of the accepted answer that fares best, the share of tokens that are the argmax.
        argmax_correct: Whether all tokens of some accepted answer are.
        predicted: Argmax at each position of the first answer.
        unchanged: Share of these that are the unedited model's; None where that is not known, and for portability.
        known_before: Whether the unedited model gives an accepted answer in full; None as above.
    """

    kind: str
    name: str
    prompt: str
    argmax_share: float | None
    argmax_correct: bool | None
    predicted: tuple[int, ...] = ()
    unchanged: float | None = None
    known_before: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """The score as JSON types; `from_dict` gives it back."""
        return {**asdict(self), "predicted": list(self.predicted)}

    @classmethod
    def from_dict(cls, data: Any) -> ProbeScore:
        """The inverse of `to_dict`."""
        return cls(**{**data, "predicted": tuple(data["predicted"])})


def probe_answers(probe: Probe) -> tuple[str, ...]:
    """What is scored after the question."""
    return probe.answers or (_NEXT,)


def tokenized_probe(probe: Probe, pair: Callable[[str, str], _Pair]) -> TokenizedProbe:
    """A probe as token ids, made by what makes those of a prompt and a target."""
    pairs = tuple(pair(probe.prompt, answer) for answer in probe_answers(probe))
    if not probe.answers:
        pairs = tuple((context, continuation[:1]) for context, continuation in pairs)
    return TokenizedProbe(probe.kind, probe.name, probe.prompt, pairs, bool(probe.answers))


def compared(edited: Sequence[ProbeScore], unedited: Sequence[ProbeScore]) -> tuple[ProbeScore, ...]:
    """The edited model's questions with what the unedited model says to those of locality."""
    return tuple(
        replace(e, unchanged=_agreement(e.predicted, u.predicted), known_before=u.argmax_correct)
        if e.kind == "locality" else e
        for e, u in zip(edited, unedited, strict=True)
    )  # fmt: skip


def columns_of(probes: Iterable[ProbeScore]) -> tuple[str, ...]:
    """The columns that some questions tell, those over all kinds first."""
    names: dict[str, dict[str, None]] = {}
    for probe in probes:
        names.setdefault(probe.kind, {})[probe.name] = None
    found: list[str] = []
    for kind, second in (("portability", "portability_exact"), ("locality", "locality_kept")):
        if kind in names:
            found += [kind, second, *(f"{kind}/{name}" for name in sorted(names[kind]) if name)]
    return tuple(found)


def is_column(name: str) -> bool:
    """Whether a score's name is one of portability or locality."""
    return name in MAIN_COLUMNS or name.partition("/")[0] in ("portability", "locality")


def in_order(names: Iterable[str]) -> list[str]:
    """The columns of portability and locality among some names: `MAIN_COLUMNS` first, then those of one kind each."""
    found = list(dict.fromkeys(filter(is_column, names)))
    return [*(name for name in MAIN_COLUMNS if name in found), *(name for name in found if name not in MAIN_COLUMNS)]


def column_value(probes: Sequence[ProbeScore], column: str) -> float | None:
    """A column of one record, between 0 and 1; None where no question tells it."""
    kind, _, name = column.partition("/")
    values: list[float | None]
    if kind == "portability_exact":
        values = [None if p.argmax_correct is None else float(p.argmax_correct)
                  for p in probes if p.kind == "portability"]  # fmt: skip
    elif kind == "locality_kept":
        values = [float(bool(p.argmax_correct)) for p in probes if p.kind == "locality" and p.known_before]
    else:
        own = [p for p in probes if p.kind == kind and (not name or p.name == name)]
        values = [p.argmax_share if kind == "portability" else p.unchanged for p in own]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def missing_columns(probes: Iterable[ProbeScore]) -> dict[str, str]:
    """Why one of `MAIN_COLUMNS` is null."""
    asked = list(probes)
    found: dict[str, str] = {}
    if not any(p.kind == "portability" for p in asked):
        found |= dict.fromkeys(("portability", "portability_exact"), "no record has a portability prompt")
    local = [p for p in asked if p.kind == "locality"]
    if not local:
        found |= dict.fromkeys(("locality", "locality_kept"), "no record has a locality prompt")
    elif all(p.unchanged is None for p in local):
        found |= dict.fromkeys(("locality", "locality_kept"), "there is no unedited model to compare with")
    elif not any(p.known_before for p in local):
        found["locality_kept"] = "the unedited model answers no locality prompt rightly"
    return found


def _agreement(edited: Sequence[int], unedited: Sequence[int]) -> float:
    return sum(a == b for a, b in zip(edited, unedited, strict=True)) / len(edited)
