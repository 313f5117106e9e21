"""Measurements of an edited model: CounterFact and zsRE scores, lm-eval tasks, forgetting, the report.

Everything here needs a model, a tokenizer and records; nothing knows how an edit was made. The names below
are loaded when they are first used, so that importing the package costs neither lm-eval nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import seqedit.distribution.moved  # noqa: F401  (old import paths)

if TYPE_CHECKING:
    from evals.answers.answers import Asking as Asking
    from evals.answers.answers import ask as ask
    from evals.answers.multihop import MultiHopScores as MultiHopScores
    from evals.answers.multihop import multihop_scores as multihop_scores
    from evals.answers.multihop import score_multihop as score_multihop
    from evals.answers.real_life import RealLifeScores as RealLifeScores
    from evals.answers.real_life import score_real_life as score_real_life
    from evals.answers.ripple import RippleScores as RippleScores
    from evals.answers.ripple import ripple_scores as ripple_scores
    from evals.forgetting import AgePoint as AgePoint
    from evals.forgetting import batch_scores as batch_scores
    from evals.forgetting import earlier_scores as earlier_scores
    from evals.forgetting import forgetting_curve as forgetting_curve
    from evals.forgetting import forgetting_matrix as forgetting_matrix
    from evals.forgetting import forgetting_row as forgetting_row
    from evals.forgetting import retention as retention
    from evals.likelihood.decoding import generate as generate
    from evals.likelihood.divergence import Divergence as Divergence
    from evals.likelihood.divergence import score_divergence as score_divergence
    from evals.likelihood.perplexity import Perplexity as Perplexity
    from evals.likelihood.perplexity import score_perplexity as score_perplexity
    from evals.likelihood.teacher_forcing import Continuation as Continuation
    from evals.likelihood.teacher_forcing import score_continuations as score_continuations
    from evals.report.report import write_report as write_report
    from evals.scores.counterfact import score_records as score_records
    from evals.scores.counterfact import score_tokenized as score_tokenized
    from evals.scores.counterfact import tokenize_records as tokenize_records
    from evals.scores.generation import GenerationScores as GenerationScores
    from evals.scores.generation import fit_vectorizer as fit_vectorizer
    from evals.scores.generation import score_generation as score_generation
    from evals.scores.intervals import score_intervals as score_intervals
    from evals.scores.scores import Scores as Scores
    from evals.scores.zsre import ZsreScores as ZsreScores
    from evals.scores.zsre import score_zsre as score_zsre
    from evals.scores.zsre import zsre_scores as zsre_scores
    from evals.statistics.changes import Change as Change
    from evals.statistics.changes import paired_change as paired_change
    from evals.statistics.changes import task_changes as task_changes
    from evals.statistics.outcomes import Outcome as Outcome
    from evals.statistics.outcomes import TaskResult as TaskResult
    from evals.statistics.outcomes import TaskResults as TaskResults
    from evals.tasks.tasks import GLUE_TASKS as GLUE_TASKS
    from evals.tasks.tasks import LoadedTasks as LoadedTasks
    from evals.tasks.tasks import evaluate_tasks as evaluate_tasks
    from evals.tasks.tasks import load_tasks as load_tasks

__distribution__ = "seqedit"

_HOMES = {
    "Asking": "evals.answers.answers",
    "ask": "evals.answers.answers",
    "MultiHopScores": "evals.answers.multihop",
    "multihop_scores": "evals.answers.multihop",
    "score_multihop": "evals.answers.multihop",
    "RealLifeScores": "evals.answers.real_life",
    "score_real_life": "evals.answers.real_life",
    "RippleScores": "evals.answers.ripple",
    "ripple_scores": "evals.answers.ripple",
    "score_records": "evals.scores.counterfact",
    "score_tokenized": "evals.scores.counterfact",
    "tokenize_records": "evals.scores.counterfact",
    "AgePoint": "evals.forgetting",
    "batch_scores": "evals.forgetting",
    "earlier_scores": "evals.forgetting",
    "forgetting_curve": "evals.forgetting",
    "forgetting_matrix": "evals.forgetting",
    "forgetting_row": "evals.forgetting",
    "retention": "evals.forgetting",
    "GenerationScores": "evals.scores.generation",
    "fit_vectorizer": "evals.scores.generation",
    "score_generation": "evals.scores.generation",
    "Divergence": "evals.likelihood.divergence",
    "score_divergence": "evals.likelihood.divergence",
    "Perplexity": "evals.likelihood.perplexity",
    "score_perplexity": "evals.likelihood.perplexity",
    "write_report": "evals.report.report",
    "generate": "evals.likelihood.decoding",
    "Scores": "evals.scores.scores",
    "Change": "evals.statistics.changes",
    "paired_change": "evals.statistics.changes",
    "score_intervals": "evals.scores.intervals",
    "task_changes": "evals.statistics.changes",
    "Outcome": "evals.statistics.outcomes",
    "TaskResult": "evals.statistics.outcomes",
    "TaskResults": "evals.statistics.outcomes",
    "GLUE_TASKS": "evals.tasks.tasks",
    "LoadedTasks": "evals.tasks.tasks",
    "evaluate_tasks": "evals.tasks.tasks",
    "load_tasks": "evals.tasks.tasks",
    "Continuation": "evals.likelihood.teacher_forcing",
    "score_continuations": "evals.likelihood.teacher_forcing",
    "ZsreScores": "evals.scores.zsre",
    "score_zsre": "evals.scores.zsre",
    "zsre_scores": "evals.scores.zsre",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evals' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
