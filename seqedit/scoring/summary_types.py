"""The shapes of ``summary.json``, as type checkers and editors see them (docs: the report's page has the fields)."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class FactSummary(TypedDict):
    """One request of a step: what was asked of the model, and what it answers."""

    subject: str
    prompt: str
    target_new: str
    target_true: str | None
    before: str | None
    after: str | None
    in_force: NotRequired[bool]
    nll_new: NotRequired[float | None]
    nll_true: NotRequired[float | None]
    argmax_correct: NotRequired[bool]
    lost_at: NotRequired[int]
    lost_to: NotRequired[dict[str, Any] | None]


class StepSummary(TypedDict):
    """One entry and its scores; those of its new batch are None where they were not measured.

    ``tasks``, ``drift``, ``gates`` and ``timings`` are as the ledger stores them.
    """

    step: int
    entry: str
    operation: str
    targets: list[str]
    message: str
    time: str
    method: str | None
    requests: int
    ES: NotRequired[float | None]
    PS: NotRequired[float | None]
    NS: NotRequired[float | None]
    S: NotRequired[float | None]
    EM: NotRequired[float | None]
    PM: NotRequired[float | None]
    NM: NotRequired[float | None]
    ET: NotRequired[float | None]
    PT: NotRequired[float | None]
    NT: NotRequired[float | None]
    portability: NotRequired[float | None]
    portability_exact: NotRequired[float | None]
    locality: NotRequired[float | None]
    locality_kept: NotRequired[float | None]
    missing: NotRequired[dict[str, str]]
    GE: NotRequired[float | None]
    RS: NotRequired[float | None]
    generation: dict[str, Any] | None
    intervals: dict[str, Any] | None
    generated: list[dict[str, Any]] | None
    diagnosis: dict[str, Any] | None
    learnt: NotRequired[dict[str, Any] | None]
    skipped: NotRequired[dict[str, Any]]
    failure: str | None
    earlier: dict[str, Any] | None
    tasks: dict[str, dict[str, Any]]
    drift: dict[str, Any]
    gates: list[dict[str, Any]]
    seconds: float
    timings: dict[str, float]
    facts: list[FactSummary]
    active: NotRequired[bool]
    interference: NotRequired[dict[str, Any]]


class ModelSummary(TypedDict):
    """The base model."""

    name: str
    fingerprint: str


class RunSummary(TypedDict):
    """A run, as read back from its ledger (`seqedit.scoring.summary.build_summary`)."""

    title: str
    model: ModelSummary
    method: dict[str, Any]
    baseline: dict[str, Any]
    steps: list[StepSummary]
    forgetting_metric: str
    forgetting: list[list[float | None]]
    forgetting_curve: list[dict[str, Any]]
    half_life: float | None
    collapse: dict[str, dict[str, Any]]
    skipped: NotRequired[list[dict[str, Any]]]
    stopped: NotRequired[str | None]
    losses: NotRequired[dict[str, Any]]
    runs: NotRequired[dict[str, RunSummary]]
