"""Measurements of an edited model: CounterFact and zsRE scores, lm-eval tasks, forgetting, the report.

Everything here needs a model, a tokenizer and records; nothing knows how an edit was made. The names below
are loaded when they are first used, so that importing the package costs neither lm-eval nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.counterfact import score_records as score_records
    from evals.counterfact import score_tokenized as score_tokenized
    from evals.counterfact import tokenize_records as tokenize_records
    from evals.scores import Scores as Scores

_HOMES = {
    "score_records": "evals.counterfact",
    "score_tokenized": "evals.counterfact",
    "tokenize_records": "evals.counterfact",
    "Scores": "evals.scores",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evals' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
