"""Benchmarks beyond single facts, run before and after edits: MQuAKE, RippleEdits, real-life answers.

The model is edited either with adapters that are there already, or here: the cases' own requests in batches, each batch
from the unedited model, as both benchmarks do it. The unedited weights are back when a run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from evals.answers.answers import Asking, ask
from evals.answers.multihop import MultiHopResult, MultiHopScores, case_prompts, multihop_scores
from evals.answers.real_life import RealLifeScores, score_real_life
from evals.answers.ripple import RippleScores, ripple_prompts, ripple_scores
from evals.scores.scores import Scores
from seqedit.adapters.adapter import Adapter
from seqedit.cases.case import MultiHopCase, RippleCase, disturbed, joint_requests
from seqedit.editing.editor import Editor
from seqedit.errors import InputError
from seqedit.facts.requests import Record, Request
from seqedit.forward.protocols import Tokenizer
from seqedit.methods.config import EditConfig
from seqedit.models.edited import EditedModel
from seqedit.moments.providing import SecondMomentSettings, moments_provider
from seqedit.support.progress import progress_bar
from seqedit.text.framing import Framing, as_edited

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Edits:
    """How the model is edited.

    Attributes:
        adapters: Adapters to apply, in order; then nothing is computed.
        method: Else a method to edit the cases' requests with.
        config: Its settings.
        batch_size: Cases (or records) that are edited together; None for all at once.
        second_moments: File of second moments; else they are measured.
        seed: Of whatever the method draws.
    """

    adapters: Sequence[Adapter] = ()
    method: str | None = None
    config: EditConfig | None = None
    batch_size: int | None = None
    second_moments: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.adapters) and self.method is not None:
            raise InputError("edit either with adapters or with a method, not with both")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"batch size must be at least 1, got {self.batch_size}")

    @property
    def any(self) -> bool:
        """Whether there is anything to apply."""
        return bool(self.adapters) or self.method is not None


def framed(
    cases: Sequence[Any], framing: Framing, edited: Sequence[Request], tokenizer: Callable[[], Tokenizer]
) -> tuple[list[Any], str | None]:
    """Cases or records whose edits are put to the model as asked for, or as adapters have put them.

    Args:
        cases: `MultiHopCase`, `RippleCase` or `Record`.
        framing: What was asked for.
        edited: Requests of adapters.
        tokenizer: Gives the model's tokenizer.

    Returns:
        The cases, and the chat template that every question is asked in (None for none).
    """

    def put(requests: Sequence[Request]) -> list[Request]:
        return [r.request for r in framing.of(as_edited(map(Record, requests), edited), tokenizer)]

    def case_put(case: Any) -> Any:
        if isinstance(case, MultiHopCase):
            return replace(case, requests=tuple(put(case.requests)))
        return replace(case, request=put([case.request])[0])

    if edited or framing.given:
        whole = [r for r in cases if isinstance(r, Record)]
        cases = framing.of(as_edited(whole, edited), tokenizer) if whole else [case_put(case) for case in cases]
    chats = {request.chat_template for request in edited}
    return list(cases), framing.digest(tokenizer) or (chats.pop() if len(chats) == 1 else None)


def run_mquake(edited: EditedModel, cases: Sequence[MultiHopCase], edits: Edits, asking: Asking) -> dict[str, Any]:
    """MQuAKE before and after the edits.

    Returns:
        JSON types: ``cases``, ``edits``, ``disturbed`` (cases whose chain another case of their batch changes) and, for
        ``exact`` and ``contained`` matches, ``before`` (the unedited model against the old chains), ``unedited`` (the
        same model against the new ones), ``after`` (the edited one against the new ones) and ``stale`` (the edited one
        against the old ones); ``answers`` holds what was said to every question.

    Raises:
        RequestError: cases that are edited together contradict each other.
    """
    before = ask(edited.model, edited.tokenizer, case_prompts(cases, asking), asking)
    parts: list[tuple[Sequence[MultiHopCase], dict[str, str]]] = []
    mixed: list[str] = []
    for batch in _edited(edited, cases, edits, _mquake_requests):
        parts.append((batch, ask(edited.model, edited.tokenizer, case_prompts(batch, asking), asking)))
        mixed += disturbed(batch, _case_name)
    result: dict[str, Any] = {
        "benchmark": "mquake", "cases": len(cases), "edits": sum(len(case.requests) for case in cases),
        "disturbed": mixed,
    }  # fmt: skip
    for match in ("exact", "contained"):
        views = {
            "before": multihop_scores(cases, before, asking, edited=False, match=match),
            "unedited": multihop_scores(cases, before, asking, match=match),
        }
        if parts:
            for name, new in (("after", True), ("stale", False)):
                found = [multihop_scores(batch, said, asking, edited=new, match=match).cases for batch, said in parts]
                views[name] = MultiHopScores(_joined(found))
        result[match] = {name: _shares(view.summary()) for name, view in views.items()}
        if match == "exact":
            result["answers"] = {name: [_said(case) for case in view.cases] for name, view in views.items()}
    return result


def run_ripple(edited: EditedModel, cases: Sequence[RippleCase], edits: Edits, asking: Asking) -> dict[str, Any]:
    """RippleEdits before and after the edits; only tests whose conditions hold on the unedited model count.

    Returns:
        JSON types: ``cases`` and, for ``contained`` (as published) and ``exact`` matches, ``before`` and ``after``,
        each with every criterion's accuracy and how many of its tests count.

    Raises:
        RequestError: cases that are edited together contradict each other.
    """
    before = ask(edited.model, edited.tokenizer, ripple_prompts(cases), asking)
    parts = []
    for batch in _edited(edited, cases, edits, _ripple_requests):
        parts.append((batch, ask(edited.model, edited.tokenizer, ripple_prompts(batch), asking)))
    result: dict[str, Any] = {"benchmark": "ripple", "cases": len(cases)}
    for match in ("contained", "exact"):
        result[match] = {"before": ripple_scores(cases, before, before, match=match).to_dict()}
        if parts:
            found = [ripple_scores(batch, before, said, match=match).cases for batch, said in parts]
            result[match]["after"] = RippleScores(_joined(found)).to_dict()
    return result


def run_real_life(edited: EditedModel, records: Sequence[Record], edits: Edits, asking: Asking) -> dict[str, Any]:
    """Free answers and teacher-forced scores of CounterFact or zsRE records, before and after the edits.

    Returns:
        JSON types: ``before`` and ``after`` as `RealLifeScores.to_dict`, and ``unchanged``, the share of neighbourhood
        prompts with the same answer as before.

    Raises:
        RequestError: records that are edited together contradict each other.
    """
    before = score_real_life(edited.model, edited.tokenizer, records, asking)
    parts = [
        score_real_life(edited.model, edited.tokenizer, batch, asking)
        for batch in _edited(edited, records, edits, _record_requests)
    ]
    result: dict[str, Any] = {"benchmark": "real-life", "records": len(records), "before": before.to_dict()}
    if parts:
        after = RealLifeScores(
            tuple(answers for part in parts for answers in part.answers),
            Scores(tuple(record for part in parts for record in part.forced.records)),
        )
        result |= {"after": after.to_dict(), "unchanged": after.unchanged(before).to_dict()}
    return result


def _edited(
    edited: EditedModel, cases: Sequence[_T], edits: Edits, requests: Callable[[Sequence[_T]], list[Request]]
) -> Iterator[Sequence[_T]]:
    """Every batch of cases while the model holds its edits; afterwards the model is unedited again."""
    if not edits.any:
        return
    try:
        if edits.adapters:
            edited.check(edits.adapters)
            edited.apply(edits.adapters)
            yield cases
            return
        size = edits.batch_size or len(cases)
        groups = [cases[start : start + size] for start in range(0, len(cases), size)]
        batches = [(group, requests(group)) for group in groups]  # contradictions are found before the work
        adapter_of = _editor(edited, edits)
        with progress_bar(f"{edits.method}: batches", len(batches)) as bar:
            for batch, wanted in batches:
                edited.write({})
                edited.apply([adapter_of(wanted)])
                yield batch
                bar.advance()
    finally:
        edited.write({})


def _editor(edited: EditedModel, edits: Edits) -> Callable[[Sequence[Request]], Adapter]:
    """What computes a batch; contexts, second moments and their factors are made once."""
    method, config = edits.method, edits.config
    assert method is not None
    assert config is not None
    edited.parts.check_layers(config.layers)
    settings = SecondMomentSettings(file=None if edits.second_moments is None else str(edits.second_moments))
    editor = Editor(edited, moments_provider(edited, settings), seed=edits.seed)
    return lambda requests: editor.compute(requests, method, config)


def _case_name(case: MultiHopCase) -> str:
    return str(case.case_id) if case.case_id is not None else case.requests[0].subject


def _mquake_requests(cases: Sequence[MultiHopCase]) -> list[Request]:
    return joint_requests((_case_name(case), case.requests) for case in cases)


def _ripple_requests(cases: Sequence[RippleCase]) -> list[Request]:
    return joint_requests((case.request.subject, [case.request]) for case in cases)


def _record_requests(records: Sequence[Record]) -> list[Request]:
    return joint_requests((str(record.request.case_id), [record.request]) for record in records)


def _joined(parts: Sequence[Sequence[_T]]) -> tuple[_T, ...]:
    return tuple(item for part in parts for item in part)


def _shares(summary: Any) -> dict[str, Any]:
    return {name: value.to_dict() for name, value in summary.items()}


def _said(case: MultiHopResult) -> dict[str, Any]:
    return asdict(case)
