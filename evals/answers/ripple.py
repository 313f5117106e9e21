"""RippleEdits scores (Cohen et al., 2023): accuracy per criterion of what an edit should change or leave alone.

A test counts only where the unedited model answers its condition queries: otherwise its outcome says nothing about
the edit. Accuracy is averaged over the tests of an edit, then over the edits. As in the paper a query is answered if
every wanted answer, or an alias of it, occurs in what the model says; unlike there the prompt does not count as
said, answers end at their natural stop (`evals.answers.answers`), and names are looked for as whole words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.answers.answers import MATCHES, Proportion, proportion
from seqedit.cases.case import CRITERIA, Query, RippleCase

_Match = Callable[[str, Sequence[str]], bool]


@dataclass(frozen=True)
class RippleResult:
    """One case.

    Attributes:
        subject: Subject of the edit.
        took: Whether the edited model gives the new fact.
        previous: Whether the unedited model gave the previous fact; None where there is none.
        passed: Criterion -> per test whether it passed, None where its conditions do not hold.
    """

    subject: str
    took: bool
    previous: bool | None
    passed: Mapping[str, tuple[bool | None, ...]]

    def accuracy(self, criterion: str) -> float | None:
        """Share of the tests that count which passed; None if none counts."""
        known = [passed for passed in self.passed[criterion] if passed is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class CriterionScore:
    """One criterion over all cases.

    Attributes:
        accuracy: Over edits that have tests which count.
        accuracy_where_taken: The same over the edits that the model took, as the paper reports it.
        tests: Tests in all.
        counted: Those whose conditions hold.
        passed: Those of them that passed.
    """

    accuracy: Proportion
    accuracy_where_taken: Proportion
    tests: int
    counted: int
    passed: int

    def to_dict(self) -> dict[str, Any]:
        """The score as JSON types."""
        shares = {"accuracy": self.accuracy.to_dict(), "accuracy_where_taken": self.accuracy_where_taken.to_dict()}
        return {**shares, "tests": self.tests, "counted": self.counted, "passed": self.passed}


@dataclass(frozen=True)
class RippleScores:
    """Scores of a list of cases, in percent."""

    cases: tuple[RippleResult, ...]

    @property
    def edit_success(self) -> Proportion:
        """Share of the edits that the model took."""
        return proportion(case.took for case in self.cases)

    @property
    def previous_known(self) -> Proportion:
        """Share of the previous facts that the unedited model gave."""
        return proportion(case.previous for case in self.cases)

    def __getitem__(self, criterion: str) -> CriterionScore:
        """The score of a criterion."""
        outcomes = [passed for case in self.cases for passed in case.passed[criterion]]
        known = [passed for passed in outcomes if passed is not None]
        return CriterionScore(
            proportion(case.accuracy(criterion) for case in self.cases),
            proportion(case.accuracy(criterion) for case in self.cases if case.took),
            len(outcomes),
            len(known),
            sum(known),
        )

    def to_dict(self) -> dict[str, Any]:
        """{"edit_success", "previous_known", criterion: score}."""
        return {
            "edit_success": self.edit_success.to_dict(),
            "previous_known": self.previous_known.to_dict(),
            **{criterion: self[criterion].to_dict() for criterion in CRITERIA},
        }


def ripple_prompts(cases: Sequence[RippleCase]) -> list[str]:
    """Every prompt that `ripple_scores` needs an answer to."""
    prompts = []
    for case in cases:
        prompts.append(case.request.text)
        for tests in case.tests.values():
            prompts += [query.prompt for test in tests for query in (*test.queries, *test.conditions)]
    return prompts


def ripple_scores(
    cases: Sequence[RippleCase], before: Mapping[str, str], after: Mapping[str, str], *, match: str = "contained"
) -> RippleScores:
    """Scores of answers that are already there.

    Args:
        cases: The cases.
        before: Prompt -> answer of the unedited model, for at least `ripple_prompts`.
        after: The same of the edited model.
        match: ``contained`` (as published) or ``exact``.
    """
    right = MATCHES[match]
    return RippleScores(tuple(_result(case, before, after, right) for case in cases))


def _result(case: RippleCase, before: Mapping[str, str], after: Mapping[str, str], right: _Match) -> RippleResult:
    passed = {}
    for criterion, tests in case.tests.items():
        outcomes: list[bool | None] = []
        for test in tests:
            if not all(_answered(query, before, right) for query in test.conditions):
                outcomes.append(None)
                continue
            found = [_answered(query, after, right) for query in test.queries]
            outcomes.append(all(found) if test.all_queries else any(found))
        passed[criterion] = tuple(outcomes)
    request = case.request
    previous = None if request.target_true is None else right(before[request.text], [request.target_true])
    return RippleResult(request.subject, right(after[request.text], [request.target_new]), previous, passed)


def _answered(query: Query, answers: Mapping[str, str], right: _Match) -> bool:
    said = answers[query.prompt]
    if right is MATCHES["exact"] and len(query.answers) > 1:
        # Several answers cannot each be the whole text; one of them, said exactly, will do.
        return any(right(said, names) for names in query.answers)
    return all(right(said, names) for names in query.answers)
