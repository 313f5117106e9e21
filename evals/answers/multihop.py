"""MQuAKE scores (Zhong et al., 2023, section 5): do the consequences of edits follow through chains of facts.

- edit-wise: share of the edited facts that the model gives when asked with the text they were edited with;
- instance-wise: share of the cases of whose chain the model gives every single fact;
- multi-hop: share of the cases of which it answers at least one of the (three) wordings of the question.

Answers are generated freely (`evals.answers.answers`). Edited facts are asked as clozes, the way they were edited, all
others and the multi-hop questions through the asking's template, after its demonstrations if there are any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.answers.answers import MATCHES, Asking, Proportion, ask, proportion
from seqedit.cases.case import Hop, MultiHopCase
from seqedit.forward.protocols import CausalLM, Tokenizer


@dataclass(frozen=True)
class MultiHopResult:
    """One case.

    Attributes:
        case_id: Its identifier.
        edits: Which edited facts are given.
        hops: Which facts of the chain are given.
        questions: Which wordings of the question are answered.
        answers: What the model said to them.
    """

    case_id: str | int | None
    edits: tuple[bool, ...]
    hops: tuple[bool, ...]
    questions: tuple[bool, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class MultiHopScores:
    """Scores of a list of cases, in percent."""

    cases: tuple[MultiHopResult, ...]

    @property
    def edit_wise(self) -> Proportion:
        """Over all edited facts of all cases whose answer is known."""
        return proportion(right for case in self.cases for right in case.edits)

    @property
    def instance_wise(self) -> Proportion:
        """Over cases: every fact of the chain is given."""
        return proportion(all(case.hops) for case in self.cases)

    @property
    def multi_hop(self) -> Proportion:
        """Over cases: at least one wording is answered."""
        return proportion(any(case.questions) for case in self.cases)

    @property
    def multi_hop_where_recalled(self) -> Proportion:
        """The same over the cases whose single facts are all given: what is lost in putting them together."""
        return proportion(any(case.questions) for case in self.cases if all(case.hops))

    def summary(self) -> dict[str, Proportion]:
        """The four by name."""
        names = ("edit_wise", "instance_wise", "multi_hop", "multi_hop_where_recalled")
        return {name: getattr(self, name) for name in names}


def case_prompts(cases: Sequence[MultiHopCase], asking: Asking) -> list[str]:
    """Every prompt that `multihop_scores` needs an answer to, of the chains before and after the edits."""
    prompts = []
    for case in cases:
        prompts += [request.text for request in case.requests]
        prompts += [asking.prompt(question) for question in case.questions]
        for hop in (*case.hops, *case.new_hops):
            prompts.append(_hop_prompt(case, hop, asking))
    return prompts


def multihop_scores(
    cases: Sequence[MultiHopCase],
    answers: Mapping[str, str],
    asking: Asking,
    *,
    edited: bool = True,
    match: str = "exact",
) -> MultiHopScores:
    """Scores of answers that are already there.

    Args:
        cases: The cases.
        answers: Prompt -> answer, for at least `case_prompts`.
        asking: As they were asked.
        edited: Hold the answers against the chain after the edits, else against the one before.
        match: ``exact`` or ``contained``.
    """
    right = MATCHES[match]
    results = []
    for case in cases:
        names = case.new_answer if edited else case.answer
        targets = [(r.text, r.target_new if edited else r.target_true) for r in case.requests]
        said = [answers[asking.prompt(question)] for question in case.questions]
        results.append(
            MultiHopResult(
                case.case_id,
                tuple(right(answers[text], _hop_names(case, text, target)) for text, target in targets if target),
                tuple(
                    right(answers[_hop_prompt(case, hop, asking)], hop.answer)
                    for hop in (case.new_hops if edited else case.hops)
                ),
                tuple(right(answer, names) for answer in said),
                tuple(said),
            )
        )
    return MultiHopScores(tuple(results))


def score_multihop(
    model: CausalLM,
    tokenizer: Tokenizer,
    cases: Sequence[MultiHopCase],
    asking: Asking | None = None,
    *,
    edited: bool = True,
    match: str = "exact",
) -> MultiHopScores:
    """Ask a model and score its answers, as `multihop_scores`; errors as for `evals.likelihood.decoding.generate`."""
    asking = asking or Asking()
    answers = ask(model, tokenizer, case_prompts(cases, asking), asking)
    return multihop_scores(cases, answers, asking, edited=edited, match=match)


def _hop_prompt(case: MultiHopCase, hop: Hop, asking: Asking) -> str:
    edited = any(request.text == hop.cloze for request in case.requests)
    return hop.cloze if edited else asking.prompt(hop.question)


def _hop_names(case: MultiHopCase, cloze: str, target: str) -> tuple[str, ...]:
    """An edit's target with the aliases that the chain knows of it."""
    aliases = (hop.answer for hop in (*case.hops, *case.new_hops) if hop.cloze == cloze and target in hop.answer)
    return target, *(name for names in aliases for name in names)
