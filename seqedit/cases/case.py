"""Cases of the benchmarks that ask for more than the edited fact: chains of facts (MQuAKE), ripples (RippleEdits)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from seqedit.errors import RequestError
from seqedit.facts.checks import short
from seqedit.facts.identity import canonical
from seqedit.facts.requests import Request

Names = tuple[str, ...]
"""An answer and its aliases; any of them will do."""


@dataclass(frozen=True)
class Hop:
    """One fact of a chain.

    Attributes:
        question: It as a question.
        cloze: It as a text that ends right before the answer.
        answer: Names of the answer.
    """

    question: str
    cloze: str
    answer: Names


@dataclass(frozen=True)
class MultiHopCase:
    """A chain of facts, the edits that change it, and questions about its end (MQuAKE).

    Attributes:
        case_id: Identifier of the case.
        requests: The edits, all applied together.
        questions: The same multi-hop question in several wordings.
        answer: Names of the answer before the edits.
        new_answer: Names of the answer after them.
        hops: The chain before the edits.
        new_hops: The chain after them.
    """

    case_id: str | int | None
    requests: tuple[Request, ...]
    questions: tuple[str, ...]
    answer: Names
    new_answer: Names
    hops: tuple[Hop, ...]
    new_hops: tuple[Hop, ...]


@dataclass(frozen=True)
class Query:
    """A prompt to be continued.

    Attributes:
        prompt: The prompt.
        answers: Names of every answer; all of the answers are wanted. An answer without names is never given.
    """

    prompt: str
    answers: tuple[Names, ...]


@dataclass(frozen=True)
class RippleTest:
    """One test of a criterion.

    Attributes:
        queries: What is asked after the edit.
        all_queries: Whether all queries must be answered rightly, or any of them.
        conditions: What the unedited model must answer rightly, or the test says nothing about the edit.
    """

    queries: tuple[Query, ...]
    all_queries: bool
    conditions: tuple[Query, ...]


@dataclass(frozen=True)
class RippleCase:
    """An edit and the tests of what should and should not follow from it (RippleEdits).

    Attributes:
        kind: ``recent``, ``random``, ``popular``, or whatever the file says.
        request: The edit; ``target_true`` is the object of the previous fact, where there is one.
        tests: Criterion (`CRITERIA`) -> its tests.
    """

    kind: str
    request: Request
    tests: Mapping[str, tuple[RippleTest, ...]]


CRITERIA = (
    "Logical_Generalization",
    "Compositionality_I",
    "Compositionality_II",
    "Subject_Aliasing",
    "Forgetfulness",
    "Relation_Specificity",
)
"""RippleEdits' criteria, in the order of its paper."""


def joint_requests(groups: Iterable[tuple[str, Sequence[Request]]]) -> list[Request]:
    """The edits of several cases as one batch; an edit that several cases ask for is made once.

    Args:
        groups: Name and requests of every case.

    Raises:
        RequestError: two cases want different targets for one fact; both are named.
    """
    chosen: dict[tuple[str, str], tuple[str, Request]] = {}
    result = []
    for name, requests in groups:
        for request in requests:
            earlier = chosen.setdefault(request.fact, (name, request))
            if earlier[1] is request:
                result.append(request)
            elif canonical(earlier[1].target_new) != canonical(request.target_new):
                raise RequestError(
                    f"cases {earlier[0]} and {name} contradict each other: {short(request.subject)} is to be both "
                    f"{short(earlier[1].target_new)} and {short(request.target_new)}; edit fewer cases together"
                )
    return result


def disturbed(cases: Sequence[MultiHopCase], name_of: Callable[[MultiHopCase], str]) -> list[str]:
    """Cases whose chain another case of the same batch changes, so that their new answer no longer follows."""
    changed = {canonical(request.text): request.target_new for case in cases for request in case.requests}
    return [
        name_of(case)
        for case in cases
        if any((asked := canonical(hop.cloze)) in changed and changed[asked] not in hop.answer for hop in case.new_hops)
    ]
